"""Rows, quadratic forms, spectra and condition numbers against dense Hessians."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.probes.hvp import together
from hgeo.second_order.modes import MODES
from tests.probes.dense import error, hessian, narrow_case, quick, slow, spans, wide_case
from tests.probes.families import FAMILIES

SOME = (
    "linear_net",
    "attention",
    "encoder_block",
    "batch_norm",
    "recurrence",
    "scanned_stack",
    "weight_norm",
)
CONDITIONED = ("gelu_mlp", "batch_norm", "recurrence", "tied_autoencoder")


def but(*quicker):
    return slow(SOME, [family for family in SOME if family not in quicker])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def sample(layers, num=6):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hgeo.sample_coordinates(layers, num, jax.random.key(1))


@pytest.mark.parametrize("family", but("scanned_stack"))
def test_rows_equal_those_of_the_dense_hessian(family):
    case, matrix = wide_case(family), hessian(family)
    coordinates = sample(case.layers)
    rows = functools.partial(hgeo.row_dominance, case.loss, chunk_size=2)
    both = quick(lambda *given: (rows(*given), rows(*given, across=case.layers)))
    own, across = both(case.params, case.batch, coordinates)
    places = np.arange(len(matrix))[None]
    for name, span in spans(case.layers).items():
        here = span.start + np.asarray(coordinates[name].indices)
        for found, keep in (
            (own, (places >= span.start) & (places < span.stop)),
            (across, places >= 0),
        ):
            off = np.where(keep & (places != here[:, None]), matrix[here], 0.0)
            expected = np.linalg.norm(off, axis=1) / np.abs(matrix[here, here])
            np.testing.assert_allclose(found[name], expected, rtol=1e-8)


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


@pytest.mark.parametrize("family", but("attention"))
def test_quadratic_forms_equal_those_of_the_dense_hessian_in_every_mode(family):
    case = wide_case(family)
    joint = together(case.layers)
    vectors = jax.random.normal(jax.random.key(2), (3, joint.size), jnp.float64)
    expected = np.einsum("ki,ij,kj->k", vectors, hessian(family), vectors)
    forms = functools.partial(hgeo.quadratic_forms, case.loss)
    directions = {"all": hgeo.Directions(joint, vectors)}
    every = quick(lambda *given: {mode: forms(*given, mode=mode)["all"] for mode in MODES})
    for mode, found in every(case.params, case.batch, directions).items():
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=mode)


def test_directions_of_the_wrong_length_are_refused():
    layer = hgeo.find_layers({"w": jnp.ones((2, 3))})["w"]
    with pytest.raises(ValueError, match=r"must have shape \(num, 6\), not \(2, 5\)"):
        hgeo.Directions(layer, jnp.ones((2, 5)))


@pytest.mark.parametrize("family", but("attention", "weight_norm"))
def test_spectrum_equals_that_of_the_dense_hessian(family):
    case = wide_case(family)
    size = together(case.layers).size
    options = {"num_matvecs": min(size, 60), "num_samples": 8}
    probe = quick(
        lambda p, b: hgeo.spectrum(case.loss, p, b, case.layers, jax.random.key(3), **options)
    )
    for seed in (0, 1):
        given, matrix = wide_case(family, seed), hessian(family, seed)
        values = np.linalg.eigvalsh(matrix)
        found = probe(given.params, given.batch)
        size = np.max(np.abs(values))
        assert abs(found.largest - values[-1]) < 1e-9 * size
        assert abs(found.smallest - values[0]) < 1e-9 * size
        assert abs(found.smoothness - size) < 1e-9 * size
        np.testing.assert_allclose(jnp.sum(found.weights, axis=1), 1.0, rtol=1e-9)
        assert abs(found.trace - np.trace(matrix)) < 5 * found.trace_error + 1e-9 * size


def squares(params, batch):
    return 0.5 * jnp.sum(batch * params["kernel"] ** 2)


def rectified(params, batch):
    x, y = batch
    return jnp.mean((jax.nn.relu(x @ params["kernel"]) @ jnp.ones((16, 1)) / 4 - y) ** 2)


def of_few_examples(params, batch):
    x, y = batch
    log_p = jax.nn.log_softmax(x @ params["kernel"])
    return -jnp.mean(jnp.take_along_axis(log_p, y, axis=1))


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


# Matrices whose Krylov spaces have fewer dimensions than there are products, numerically at least.
SHORT = {
    "one eigenvalue": (squares, (64, 1), jnp.ones((64, 1))),
    "four eigenvalues": (squares, (64, 1), jnp.repeat(jnp.arange(1.0, 5.0), 16)[:, None]),
    "fast decay": (squares, (64, 1), 10.0 ** -jnp.arange(64.0)[:, None]),
    "rank one": (lambda params, batch: 0.5 * jnp.sum(params["kernel"]) ** 2, (40, 1), None),
    "rectified": (rectified, (10, 16), (normal(0, 6, 10), normal(1, 6, 1))),
    "few examples": (of_few_examples, (20, 5), (normal(2, 2, 20), jnp.array([[0], [1]]))),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_krylov_space_that_ends_early_gives_the_dense_spectrum(name):
    with jax.enable_x64(False):
        loss, shape, batch = SHORT[name]
        batch = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype.kind == "f" else x, batch)
        params = {"kernel": normal(3, *shape)}
        layer = hgeo.find_layers(params)["kernel"]
        both = quick(
            lambda p, b: (
                hgeo.spectrum(loss, p, b, layer, jax.random.key(4), num_matvecs=30, num_samples=3),
                jax.hessian(lambda w: loss(layer.replace(p, w), b))(layer.ravel(p)),
            )
        )
        found, dense = both(params, batch)
        low, *_, high = np.linalg.eigvalsh(np.asarray(dense, np.float64))
        margin = 1e-4 * max(high, -low)
        np.testing.assert_allclose([found.smallest, found.largest], [low, high], atol=margin)
        assert float(found.nodes.min()) > low - margin
        assert float(found.nodes.max()) < high + margin
        assert max(found.largest_error, found.smallest_error) < margin
        np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=1e-5)


def test_the_error_of_an_extreme_eigenvalue_bounds_its_distance_to_one():
    key, n = jax.random.key(0), 100
    matrix = jax.random.normal(key, (n, n), jnp.float64)
    matrix = (matrix + matrix.T) / 2
    params = {"w": jnp.ones((1, n))}
    loss = lambda params, batch: 0.5 * params["w"].ravel() @ (matrix @ params["w"].ravel())
    values = jnp.linalg.eigvalsh(matrix)
    layer = hgeo.find_layers(params)["w"]
    for num in (4, 12):
        probe = functools.partial(hgeo.spectrum, loss, layer=layer, num_matvecs=num)
        found = quick(lambda p, probe=probe: probe(p, None, key=jax.random.key(1)))(params)
        assert found.largest_error > 1e-6
        assert jnp.min(jnp.abs(values - found.largest)) <= found.largest_error
        assert jnp.min(jnp.abs(values - found.smallest)) <= found.smallest_error


def test_the_traces_error_is_honest():
    case = wide_case("attention")
    truth = np.trace(hessian("attention"))
    traced = lambda key: hgeo.spectrum(
        case.loss, case.params, case.batch, case.layers, key, num_matvecs=1, num_samples=20
    )[4:6]
    keys = jax.random.split(jax.random.key(4), 200)
    traces, errors = quick(lambda keys: jax.lax.map(traced, keys))(keys)
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
    with pytest.raises(ValueError, match=r"but these share \['w'\]"):
        hgeo.spectrum(loss, params, None, {"a": layer, "b": layer}, jax.random.key(0))


@pytest.mark.parametrize("family", slow(CONDITIONED, CONDITIONED[:-1]))
def test_condition_number_equals_that_of_the_dense_hessian(family):
    case, matrix = narrow_case(family), hessian(family)
    for name, span in list(spans(case.layers).items())[:2]:
        layer = case.layers[name]
        values = np.sort(np.abs(np.linalg.eigvalsh(matrix[span, span])))
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
    with pytest.raises(ValueError, match=r"'w' has 200 weights, more than max_size=100"):
        hgeo.condition_number(loss, params, None, layer, max_size=100)
    narrow = lambda params, batch: jnp.sum(params["w"].astype(jnp.float32) ** 3)
    with pytest.raises(ValueError, match="returns float32 for float64 params"):
        hgeo.condition_number(narrow, params, None, layer)
    infinite = lambda params, batch: jnp.sum(jnp.sqrt(params["w"] - 1.0))
    with pytest.raises(ValueError, match="of 40000 entries of the Hessian are not finite"):
        hgeo.condition_number(infinite, params, None, layer)
