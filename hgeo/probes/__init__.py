"""Probes of the Hessian: layers, coordinates and the modes of differentiation."""
