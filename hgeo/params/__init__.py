"""Layers, coordinates and directions of a params pytree."""
