"""hgeo's exact diagonals against PyTorch's: same weights, same batch, same coordinates."""

import functools

import jax
import numpy as np
import pytest
import torch

import hgeo
from tests.integration.parity.cases import CASES, make_case
from tests.integration.parity.references import (
    backpack_diagonal,
    curvlinops_columns,
    double_backward,
)

MODES = ("adjoint_weighted", "forward_over_reverse", "forward_over_forward")
# Of the layer's largest |H_ii|; and of R_med.
TOLERANCE = {"float32": 1e-4, "float64": 1e-12}
R_MED_TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
NUM_COORDINATES = 40
SEEDS = (0, 1)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Arrays this small gain nothing from several, and on a busy machine lose much by waiting.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def coordinates_of(case):
    layers = hgeo.find_layers(case.params, case.layers)
    return hgeo.sample_coordinates(layers, NUM_COORDINATES, jax.random.key(0))


@functools.cache
def entries_in_torch(name, dtype, seed, way):
    case = make_case(name, dtype, seed)
    return {
        path: way(case, path, case.torch_positions(path, chosen.indices))
        for path, chosen in coordinates_of(case).items()
    }


@functools.cache
def entries_in_hgeo(name, dtype, seed, mode):
    case = make_case(name, dtype, seed)
    coordinates = coordinates_of(case)
    probe = jax.jit(
        lambda params, batch: hgeo.sampled_diagonal(
            case.loss, params, batch, coordinates, mode=mode
        )
    )
    entries = probe(case.params, case.batch)
    assert list(entries) == case.layers
    assert all(entry.dtype == dtype for entry in entries.values())
    return {path: np.asarray(entry) for path, entry in entries.items()}


def assert_agree(entries, expected, dtype):
    assert entries.keys() == expected.keys()
    for path, truth in expected.items():
        assert truth.shape == (NUM_COORDINATES,)
        error = np.max(np.abs(entries[path] - truth)) / np.max(np.abs(truth))
        assert error <= TOLERANCE[dtype], path


@pytest.mark.parametrize("name", CASES)
def test_losses_agree(name, dtype):
    case = make_case(name, dtype, 0)
    logits = case.model(case.inputs)
    truth = np.mean(-logits.log_softmax(-1).gather(1, case.targets[:, None]).detach().numpy())
    np.testing.assert_allclose(case.loss(case.params, case.batch), truth, rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_equals_double_backward(name, mode, seed, dtype):
    expected = entries_in_torch(name, dtype, seed, double_backward)
    assert_agree(entries_in_hgeo(name, dtype, seed, mode), expected, dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_equals_curvlinops(name, mode, dtype):
    expected = entries_in_torch(name, dtype, 0, curvlinops_columns)
    assert_agree(entries_in_hgeo(name, dtype, 0, mode), expected, dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["mlp_tanh", "conv_net"])
def test_equals_backpack(name, mode, dtype):
    expected = entries_in_torch(name, dtype, 0, backpack_diagonal)
    assert_agree(entries_in_hgeo(name, dtype, 0, mode), expected, dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_r_med_equals_pytorchs(name, mode, dtype):
    expected = entries_in_torch(name, dtype, 0, double_backward)
    statistic = hgeo.r_med(entries_in_hgeo(name, dtype, 0, mode))
    for path, truth in expected.items():
        magnitude = np.abs(truth)
        r_med = np.max(magnitude) / np.median(magnitude)
        assert r_med > 1.1  # else the statistic would say nothing of the entries
        np.testing.assert_allclose(statistic[path], r_med, rtol=R_MED_TOLERANCE[dtype])


@pytest.mark.parametrize("name", CASES)
def test_auto_takes_the_one_sweep_mode(name, dtype):
    case = make_case(name, dtype, 0)
    choice = hgeo.choose_mode(case.loss, case.params, case.batch, coordinates_of(case))
    assert choice.mode == "adjoint_weighted", choice.reason
    expected = entries_in_torch(name, dtype, 0, double_backward)
    assert_agree(entries_in_hgeo(name, dtype, 0, "auto"), expected, dtype)
