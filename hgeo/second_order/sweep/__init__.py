"""Tangent sweeps: a plan made once for all coordinates, and its run for each of them."""
