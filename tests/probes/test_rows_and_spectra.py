"""Rows, quadratic forms, spectra and condition numbers against dense Hessians."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.probes.hessian_product import together
from tests.probes.dense import dense_hessian, error, quick, slow
from tests.probes.families import FAMILIES

SOME = ["linear_net", "encoder_block", "batch_norm", "recurrence", "scanned_stack", "weight_norm"]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def sample(layers, num=6):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hgeo.sample_coordinates(layers, num, jax.random.key(1))


@pytest.mark.parametrize("family", slow(SOME, ("encoder_block", "batch_norm")))
def test_rows_equal_those_of_the_dense_hessian(family):
    case = FAMILIES[family](jax.random.key(0))
    coordinates = sample(case.layers)
    joint = together(case.layers)
    hessian = dense_hessian(case.loss, case.params, case.batch, joint)
    rows = lambda across: quick(
        lambda params, batch: hgeo.row_dominance(
            case.loss, params, batch, coordinates, across=across, chunk_size=2
        )
    )(case.params, case.batch)
    own, across, start = rows(None), rows(case.layers), 0
    for name, chosen in coordinates.items():
        here = start + chosen.indices
        inside = jnp.arange(joint.size, dtype=jnp.int32)[None]
        for found, keep in (
            (own, (inside >= start) & (inside < start + chosen.layer.size)),
            (across, inside >= 0),
        ):
            off = jnp.where(keep & (inside != here[:, None]), hessian[here], 0.0)
            expected = jnp.linalg.norm(off, axis=1) / jnp.abs(hessian[here, here])
            np.testing.assert_allclose(found[name], expected, rtol=1e-8)
        start += chosen.layer.size


def test_a_constant_matrix_of_n_rows_has_r_diag_of_the_root_of_n_minus_one():
    params = {"w": jnp.ones((3, 7))}
    loss = lambda params, batch: 1e-30 * jnp.sum(params["w"]) ** 2
    layers = hgeo.find_layers(params)
    rows = hgeo.row_dominance(loss, params, None, sample(layers))["w"]
    np.testing.assert_allclose(rows, 20**0.5, rtol=1e-12)


def test_rows_of_zeros_and_coordinates_outside_are_not_numbers():
    params = {"w": jnp.ones((2, 2))}
    layer = hgeo.find_layers(params)["w"]
    loss = lambda params, batch: params["w"][0, 0] * params["w"][0, 1] + params["w"][1, 0] ** 2
    rows = jax.jit(
        lambda indices: hgeo.row_dominance(
            loss, params, None, {"w": hgeo.Coordinates(layer, indices)}
        )
    )(jnp.array([0, 2, 3, 7]))["w"]
    assert np.isposinf(rows[0])
    assert rows[1] == 0
    assert np.isnan(rows[2])
    assert np.isnan(rows[3])


def test_across_must_hold_the_layers_of_the_coordinates():
    case = FAMILIES["linear_net"](jax.random.key(0))
    coordinates = sample(case.layers)
    with pytest.raises(ValueError, match=r"across names \['w1'\], but not .* \['w2', 'w3'\]"):
        hgeo.row_dominance(
            case.loss, case.params, case.batch, coordinates, across={"w1": case.layers["w1"]}
        )


@pytest.mark.parametrize("family", slow(SOME, ("encoder_block", "batch_norm")))
def test_quadratic_forms_equal_those_of_the_dense_hessian_in_every_mode(family):
    case = FAMILIES[family](jax.random.key(0))
    joint = together(case.layers)
    vectors = jax.random.normal(jax.random.key(2), (3, joint.size), jnp.float64)
    hessian = dense_hessian(case.loss, case.params, case.batch, joint)
    expected = jnp.einsum("ki,ij,kj->k", vectors, hessian, vectors)
    for mode in ("adjoint_weighted", "forward_over_reverse", "forward_over_forward"):
        forms = quick(
            lambda params, batch, mode=mode: hgeo.quadratic_forms(
                case.loss, params, batch, {"all": hgeo.Directions(joint, vectors)}, mode=mode
            )
        )(case.params, case.batch)["all"]
        np.testing.assert_allclose(forms, expected, rtol=1e-9, err_msg=mode)


def test_directions_of_the_wrong_length_are_refused():
    layer = hgeo.find_layers({"w": jnp.ones((2, 3))})["w"]
    with pytest.raises(ValueError, match=r"must have shape \(num, 6\), not \(2, 5\)"):
        hgeo.Directions(layer, jnp.ones((2, 5)))


@pytest.mark.parametrize("family", slow(SOME, ("encoder_block", "batch_norm")))
def test_spectrum_equals_that_of_the_dense_hessian(family):
    for seed in (0, 1):
        case = FAMILIES[family](jax.random.key(seed))
        joint = together(case.layers)
        hessian = dense_hessian(case.loss, case.params, case.batch, joint)
        values = jnp.linalg.eigvalsh(hessian)
        found = quick(
            lambda params, batch, case=case, joint=joint: hgeo.spectrum(
                case.loss,
                params,
                batch,
                case.layers,
                jax.random.key(3),
                num_matvecs=min(joint.size, 60),
                num_samples=8,
            )
        )(case.params, case.batch)
        size = jnp.max(jnp.abs(values))
        assert abs(found.largest - values[-1]) < 1e-9 * size
        assert abs(found.smallest - values[0]) < 1e-9 * size
        assert abs(found.smoothness - size) < 1e-9 * size
        np.testing.assert_allclose(jnp.sum(found.weights, axis=1), 1.0, rtol=1e-9)
        assert abs(found.trace - jnp.trace(hessian)) < 5 * found.trace_error + 1e-9 * size


def test_the_error_of_an_extreme_eigenvalue_bounds_its_distance_to_one():
    key, n = jax.random.key(0), 200
    matrix = jax.random.normal(key, (n, n), jnp.float64)
    matrix = (matrix + matrix.T) / 2
    loss = lambda params, batch: 0.5 * jnp.vdot(params["w"], matrix @ params["w"].ravel())
    params = {"w": jnp.ones((1, n))}
    loss = lambda params, batch: 0.5 * params["w"].ravel() @ (matrix @ params["w"].ravel())
    values = jnp.linalg.eigvalsh(matrix)
    layer = hgeo.find_layers(params)["w"]
    for num in (5, 10, 20):
        found = hgeo.spectrum(loss, params, None, layer, jax.random.key(1), num_matvecs=num)
        assert found.largest_error > 1e-6
        assert jnp.min(jnp.abs(values - found.largest)) <= found.largest_error
        assert jnp.min(jnp.abs(values - found.smallest)) <= found.smallest_error


def test_the_traces_error_is_honest():
    case = FAMILIES["encoder_block"](jax.random.key(0))
    layer = next(iter(case.layers.values()))
    truth = jnp.trace(dense_hessian(case.loss, case.params, case.batch, layer))
    traced = jax.jit(
        lambda key: hgeo.spectrum(
            case.loss, case.params, case.batch, layer, key, num_matvecs=1, num_samples=20
        )[4:6]
    )
    keys = jax.random.split(jax.random.key(4), 200)
    traces, errors = jax.lax.map(traced, keys)
    within = jnp.mean((jnp.abs(traces - truth) < 2 * errors).astype(jnp.float64))
    assert 0.88 < within < 0.99  # 94% for normal numbers and 20 samples
    assert abs(jnp.mean(traces) - truth) < 4 * jnp.std(traces) / len(keys) ** 0.5


def test_a_dead_layer_has_a_spectrum_of_zeros():
    params = {"w": jnp.ones((2, 2))}
    layer = hgeo.find_layers(params)["w"]
    loss = lambda params, batch: jnp.sum(params["w"] * 3.0)
    found = hgeo.spectrum(loss, params, None, layer, jax.random.key(0), num_matvecs=3)
    assert all(np.all(np.asarray(part) == 0) for part in found[:7])


def test_bad_numbers_of_products_and_samples():
    params = {"w": jnp.ones((2, 2))}
    layer = hgeo.find_layers(params)["w"]
    loss = lambda params, batch: jnp.sum(params["w"] ** 3)
    for options, message in (
        ({"num_matvecs": 5}, r"num_matvecs must lie in 1 to 4, .* not 5"),
        ({"num_matvecs": 0}, r"num_matvecs must lie in 1 to 4, .* not 0"),
        ({"num_matvecs": 2, "num_samples": 1}, r"num_samples must be at least 2 .* not 1"),
    ):
        with pytest.raises(ValueError, match=message):
            hgeo.spectrum(loss, params, None, layer, jax.random.key(0), **options)
    with pytest.raises(ValueError, match=r"taken together share \['w'\]"):
        hgeo.spectrum(loss, params, None, {"a": layer, "b": layer}, jax.random.key(0))


@pytest.mark.parametrize("family", slow(["gelu_mlp", "batch_norm", "recurrence"], ("batch_norm",)))
def test_condition_number_equals_that_of_the_dense_hessian(family):
    with jax.enable_x64(False):
        case = FAMILIES[family](jax.random.key(0))
    params, batch = jax.tree.map(
        lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, (case.params, case.batch)
    )
    for name in list(case.layers)[:2]:
        layer = hgeo.find_layers(params, [name])[name]
        values = jnp.sort(
            jnp.abs(jnp.linalg.eigvalsh(dense_hessian(case.loss, params, batch, layer)))
        )
        told = []
        with jax.enable_x64(False):  # float32 params and batch are taken to float64
            found = hgeo.condition_number(
                case.loss,
                case.params,
                case.batch,
                case.layers[name],
                chunk_size=5,
                progress=lambda *values, told=told: told.append(values),
            )
        assert told[-1] == (layer.size, layer.size)
        assert error(np.sort(np.abs(found.eigenvalues)), values) < 1e-12
        assert found.asymmetry < 1e-12
        kept = values[values > layer.size * 2**-52 * values[-1]]
        assert found.rank == len(kept)
        np.testing.assert_allclose(found.range_condition_number, values[-1] / kept[0], rtol=1e-2)


def test_condition_number_of_a_known_matrix():
    params = {"w": jnp.ones((1, 4), jnp.float32)}
    layer = hgeo.find_layers(params)["w"]
    loss = lambda params, batch: 0.5 * jnp.sum(batch * params["w"] ** 2)
    batch = jnp.array([[1e-3, -8.0, 2.0, 0.0]])
    found = hgeo.condition_number(loss, params, batch, layer)
    assert (found.rank, found.smoothness) == (3, 8.0)
    assert np.isinf(found.condition_number)
    np.testing.assert_allclose(found.range_condition_number, 8e3)


def test_what_the_condition_number_refuses():
    params = {"w": jnp.ones((2, 100))}
    layer = hgeo.find_layers(params)["w"]
    loss = lambda params, batch: jnp.sum(params["w"] ** 3)
    with pytest.raises(ValueError, match=r"'w' has 200 weights; .* up to max_size=100"):
        hgeo.condition_number(loss, params, None, layer, max_size=100)
    narrow = lambda params, batch: jnp.sum(params["w"].astype(jnp.float32) ** 3)
    with pytest.raises(ValueError, match="is float32, not float64"):
        hgeo.condition_number(narrow, params, None, layer)
    infinite = lambda params, batch: jnp.sum(jnp.sqrt(params["w"] - 1.0))
    with pytest.raises(ValueError, match="of 40000 entries of the Hessian are not finite"):
        hgeo.condition_number(infinite, params, None, layer)
