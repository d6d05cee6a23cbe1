"""Benchmarks: each measures hgeo beside its alternatives, on the same weights and batch."""
