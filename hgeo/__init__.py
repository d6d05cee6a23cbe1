"""hgeo: how optimizers shape the local geometry of a neural network's loss."""

from hgeo.losses import Weighted
from hgeo.probes.coordinates import Coordinates, sample_coordinates
from hgeo.probes.diagonal import sampled_diagonal
from hgeo.probes.layers import Layer, LeafSlice, find_layers
from hgeo.statistics import r_med

__all__ = [
    "Coordinates",
    "Layer",
    "LeafSlice",
    "Weighted",
    "find_layers",
    "r_med",
    "sample_coordinates",
    "sampled_diagonal",
]
