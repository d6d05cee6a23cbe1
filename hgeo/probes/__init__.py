"""Probes of the Hessian: one module for each public function."""
