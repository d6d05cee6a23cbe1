"""hgeo: how optimizers shape the local geometry of a neural network's loss."""

from hgeo.losses import Weighted
from hgeo.probes.coordinates import Coordinates, sample_coordinates
from hgeo.probes.diagonal import choose_mode, sampled_diagonal
from hgeo.probes.layers import Layer, LeafSlice, find_layers
from hgeo.probes.modes import ModeChoice
from hgeo.probes.probe import Probe, make_probe
from hgeo.statistics import r_med

__all__ = [
    "Coordinates",
    "Layer",
    "LeafSlice",
    "ModeChoice",
    "Probe",
    "Weighted",
    "choose_mode",
    "find_layers",
    "make_probe",
    "r_med",
    "sample_coordinates",
    "sampled_diagonal",
]
