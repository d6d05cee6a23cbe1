"""Tangent sweeps: planned once for all coordinates, and run for each of them."""
