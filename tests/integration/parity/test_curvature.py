"""Gauss-Newton, Fisher, full diagonals, rows and spectra against PyTorch's libraries."""

import functools

import curvlinops
import jax
import numpy as np
import pytest
import torch

import hgeo
from tests.integration.parity.cases import CASES, cross_entropy, make_case
from tests.integration.parity.references import (
    backpack_diagonal,
    backpack_gauss_newton,
    columns,
    drawn_targets,
)

# Of the layer's largest entry.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
MODES = ("adjoint_weighted", "forward_over_reverse", "forward_over_forward")
NUM_COORDINATES = 30


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def coordinates_of(case):
    layers = hgeo.find_layers(case.params, case.layers)
    return hgeo.sample_coordinates(layers, NUM_COORDINATES, jax.random.key(0))


def check(found, case, reference, dtype):
    """Entries at the coordinates against a function of the path and PyTorch's positions."""
    for path, chosen in coordinates_of(case).items():
        truth = reference(path, case.torch_positions(path, chosen.indices))
        error = np.max(np.abs(np.asarray(found[path]) - truth)) / np.max(np.abs(truth))
        assert error <= TOLERANCE[dtype], path


def sampled(case, loss, **options):
    probe = jax.jit(functools.partial(hgeo.sampled_diagonal, loss, **options))
    return probe(case.params, case.batch, coordinates_of(case))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_gauss_newton_equals_curvlinops(name, mode, dtype):
    case = make_case(name, dtype, 0)
    found = sampled(case, hgeo.gauss_newton(case.outputs, cross_entropy), mode=mode)
    truth = functools.partial(columns, curvlinops.GGNLinearOperator, case)
    check(found, case, lambda *args: truth(*args).diagonal(), dtype)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["mlp_tanh", "conv_net"])
def test_gauss_newton_equals_backpack(name, seed, dtype):
    case = make_case(name, dtype, seed)
    loss = hgeo.gauss_newton(case.outputs, cross_entropy)
    truth = functools.partial(backpack_gauss_newton, case)
    check(sampled(case, loss), case, truth, dtype)
    layers = hgeo.find_layers(case.params, case.layers)
    full = jax.jit(functools.partial(hgeo.full_diagonal, loss, layers=layers))
    whole = full(case.params, case.batch)
    at = {path: whole[path][own.indices] for path, own in coordinates_of(case).items()}
    check(at, case, truth, dtype)


@pytest.mark.parametrize("name", ["mlp_tanh", "conv_net", "encoder_block"])
def test_empirical_fisher_equals_curvlinops(name, dtype):
    case = make_case(name, dtype, 0)
    found = sampled(case, hgeo.fisher(case.outputs, cross_entropy))
    truth = functools.partial(columns, curvlinops.EFLinearOperator, case)
    check(found, case, lambda *args: truth(*args).diagonal(), dtype)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["mlp_tanh", "conv_net"])
def test_fisher_of_the_same_draws_equals_curvlinops(name, seed, dtype):
    case = make_case(name, dtype, 0)
    labels = drawn_targets(case, seed)
    assert np.any(labels != case.targets.numpy())
    drawn = case.batch | {"targets": jax.numpy.asarray(labels)}
    loss = hgeo.fisher(case.outputs, cross_entropy, sample=lambda *_: drawn, key=jax.random.key(0))
    options = {"seed": seed, "mc_samples": 1}
    truth = functools.partial(columns, curvlinops.FisherMCLinearOperator, case, **options)
    check(sampled(case, loss), case, lambda *args: truth(*args).diagonal(), dtype)


@pytest.mark.parametrize("name", CASES)
def test_full_diagonal_equals_that_of_curvlinops(name, dtype):
    case = make_case(name, dtype, 0)
    layers = hgeo.find_layers(case.params, case.layers)
    full = jax.jit(functools.partial(hgeo.full_diagonal, case.loss, layers=layers))
    whole = full(case.params, case.batch)
    at = {path: whole[path][own.indices] for path, own in coordinates_of(case).items()}
    truth = functools.partial(columns, curvlinops.HessianLinearOperator, case)
    check(at, case, lambda *args: truth(*args).diagonal(), dtype)
    if case.has_backpack:
        check(at, case, functools.partial(backpack_diagonal, case), dtype)


@pytest.mark.parametrize("name", ["mlp_tanh", "conv_net", "encoder_block"])
def test_rows_and_spectrum_equal_those_of_curvlinops(name):
    with jax.enable_x64(True):
        case = make_case(name, "float64", 0)
        path = case.layers[0]
        layer = hgeo.find_layers(case.params, [path])[path]
        every = hgeo.Coordinates(layer, np.arange(layer.size))
        positions = case.torch_positions(path, every.indices)
        hessian = columns(curvlinops.HessianLinearOperator, case, path, positions)
        rows = jax.jit(functools.partial(hgeo.row_dominance, case.loss))
        found = rows(case.params, case.batch, {path: every})[path]
        off = hessian - np.diag(hessian.diagonal())
        expected = np.linalg.norm(off, axis=1) / np.abs(hessian.diagonal())
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        values = np.linalg.eigvalsh(hessian)
        spectrum = functools.partial(hgeo.spectrum, case.loss, num_matvecs=min(layer.size, 50))
        found = spectrum(case.params, case.batch, layer, jax.random.key(0))
        size = np.max(np.abs(values))
        assert abs(found.largest - values[-1]) < 1e-8 * size
        assert abs(found.smallest - values[0]) < 1e-8 * size
