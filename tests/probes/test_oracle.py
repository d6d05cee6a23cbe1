"""Every mode against the dense Hessian, on every family of models."""

import functools
import warnings

import jax
import numpy as np
import pytest

import hgeo
from hgeo.second_order.modes import MODES
from tests.probes.dense import diagonals, narrow_case, quick, slow, wide_case
from tests.probes.families import FAMILIES

SEEDS = (0, 1, 2)
NUM = 16
# Together they have every construct; test_programs.py has every primitive.
QUICKER_WIDE = (
    "tied_autoencoder",
    "recurrence",
    "scanned_stack",
    "weight_norm",
)
QUICKER_NARROW = ("gelu_mlp", "scanned_stack")


def but(names):
    return slow(FAMILIES, [family for family in FAMILIES if family not in names])


def draw(layers, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that small layers give all they have
        return hgeo.sample_coordinates(layers, NUM, jax.random.key(seed))


def probes_of(loss, chunk_size, modes=tuple(MODES)):
    """A probe in every mode, compiled once for all seeds."""
    probe = functools.partial(hgeo.sampled_diagonal, loss, chunk_size=chunk_size)
    return quick(lambda *given: {mode: probe(*given, mode=mode) for mode in modes})


@pytest.mark.parametrize("family", but(QUICKER_WIDE))
def test_every_mode_agrees_with_the_dense_hessian_in_float64(family):
    with jax.enable_x64(True):
        probes = probes_of(wide_case(family).loss, 2)
        for seed in SEEDS:
            case = wide_case(family, seed)
            coordinates = draw(case.layers, seed)
            # The announced mode is among those that are lowered and run.
            choice = hgeo.choose_mode(case.loss, case.params, case.batch, coordinates)
            assert choice.vmapped
            found = probes(case.params, case.batch, coordinates)
            assert choice.mode in found
            for entries in found.values():
                check(entries, diagonals(family, seed), coordinates, 1e-10, 1e-9, np.float64)


@pytest.mark.parametrize("family", but(QUICKER_NARROW))
def test_every_mode_agrees_with_the_dense_hessian_in_float32(family):
    modes = tuple(mode for mode in MODES if mode != "reverse_over_reverse")
    probes = probes_of(narrow_case(family).loss, 4, modes)
    for seed in SEEDS:
        case = narrow_case(family, seed)
        coordinates = draw(case.layers, seed)
        for found in probes(case.params, case.batch, coordinates).values():
            check(found, diagonals(family, seed), coordinates, 1e-5, 1e-4, np.float32)


def check(found, truth, coordinates, tolerance, ratio_tolerance, dtype):
    assert list(found) == list(coordinates)
    for name, chosen in coordinates.items():
        expected, largest = truth[name][np.asarray(chosen.indices)], np.max(np.abs(truth[name]))
        assert found[name].dtype == dtype
        error = np.max(np.abs(np.asarray(found[name], np.float64) - expected))
        assert error <= tolerance * largest, (name, error, largest)
        ratio = _ratio(expected)
        if np.isfinite(ratio):
            assert abs(_ratio(found[name]) / ratio - 1) < ratio_tolerance, (name, ratio)


def _ratio(entries):
    magnitude = np.abs(np.asarray(entries, np.float64))
    return np.max(magnitude) / np.median(magnitude)
