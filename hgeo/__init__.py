"""hgeo: how optimizers shape the local geometry of a neural network's loss."""

from hgeo import compat
from hgeo.curvature.fisher import fisher
from hgeo.curvature.gauss_newton import gauss_newton
from hgeo.curvature.preconditioning import preconditioned, preconditioner
from hgeo.losses import Weighted
from hgeo.measure.monitor import Monitor
from hgeo.params.coordinates import Coordinates, sample_coordinates
from hgeo.params.directions import Directions
from hgeo.params.layers import Layer, find_layers
from hgeo.params.leaf_paths import LeafSlice
from hgeo.probes.compiled_probe import Probe, make_probe
from hgeo.probes.condition_number import Conditioning, condition_number
from hgeo.probes.full_diagonal import DiagonalCost, full_diagonal, full_diagonal_cost
from hgeo.probes.quadratic_forms import quadratic_forms
from hgeo.probes.row_dominance import row_dominance
from hgeo.probes.sampled_diagonal import choose_mode, sampled_diagonal
from hgeo.probes.spectrum import Spectrum, spectrum
from hgeo.probes.stochastic_diagonal import Estimate, stochastic_diagonal
from hgeo.second_order.modes import ModeChoice
from hgeo.statistics.alignment import Alignment, alignment
from hgeo.statistics.low_rank import LowRank, low_rank
from hgeo.statistics.r_diag import RDiag, r_diag
from hgeo.statistics.r_med import Spread, q95_over_median, r_med, r_med_spread
from hgeo.statistics.r_med_ratio import RMedRatio, r_med_ratio

__all__ = [
    "Alignment",
    "Conditioning",
    "Coordinates",
    "DiagonalCost",
    "Directions",
    "Estimate",
    "Layer",
    "LeafSlice",
    "LowRank",
    "ModeChoice",
    "Monitor",
    "Probe",
    "RDiag",
    "RMedRatio",
    "Spectrum",
    "Spread",
    "Weighted",
    "alignment",
    "choose_mode",
    "condition_number",
    "find_layers",
    "fisher",
    "full_diagonal",
    "full_diagonal_cost",
    "gauss_newton",
    "low_rank",
    "make_probe",
    "preconditioned",
    "preconditioner",
    "q95_over_median",
    "quadratic_forms",
    "r_diag",
    "r_med",
    "r_med_ratio",
    "r_med_spread",
    "row_dominance",
    "sample_coordinates",
    "sampled_diagonal",
    "spectrum",
    "stochastic_diagonal",
]

compat.warn_of_wrong_sums()
