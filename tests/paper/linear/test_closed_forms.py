"""Closed forms of linear networks against dense float64 Hessians and against the probe library."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from experiments.paper.linear.hessian_rows import hidden_row, output_row, two_layer_r_diag
from experiments.paper.linear.measures import (
    dense_r_diag,
    layer_r_med,
    leading_direction,
    mechanism,
)
from experiments.paper.linear.networks import (
    diagonal_factors,
    gradient_factors,
    hessian_diagonal,
    initial_weights,
    linear_loss,
    product,
)
from hgeo.errors import InputError
from tests.probes.dense import slow

WIDTHS = slow(
    [(4, 3), (3, 5, 1), (2, 4, 3, 2, 1), (4, 4, 1), (2, 5, 3, 2), (3, 3, 3, 3, 1)],
    [(4, 4, 1), (2, 5, 3, 2), (3, 3, 3, 3, 1)],
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def network(widths, seed=0, std=0.7):
    weights = initial_weights(jax.random.key(seed), widths, std, jnp.float64)
    target = jax.random.uniform(jax.random.key(seed + 100), (widths[-1], widths[0]), jnp.float64)
    return weights, target


@jax.jit
def whole_hessian(weights, target):
    flat, rebuild = jax.flatten_util.ravel_pytree(weights)
    hessian = jax.hessian(lambda vector: linear_loss(rebuild(vector), target))
    return hessian(flat)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_diagonal_is_the_dense_hessians(widths, seed):
    weights, target = network(widths, seed)
    dense = np.diagonal(np.asarray(whole_hessian(weights, target)))
    np.testing.assert_allclose(np.concatenate(hessian_diagonal(weights)), dense, rtol=1e-11)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_diagonal_is_the_probes(widths):
    weights, target = network(widths)
    layers = hgeo.find_layers(weights)
    assert len(layers) == len(weights)
    with pytest.warns(UserWarning, match="all of them are taken"):
        coordinates = hgeo.sample_coordinates(layers, num=1000, key=jax.random.key(1))
    probe = jax.jit(lambda w, t: hgeo.sampled_diagonal(linear_loss, w, t, coordinates))
    probed = probe(weights, target)
    for closed, (name, entries) in zip(
        jax.jit(hessian_diagonal)(weights), probed.items(), strict=True
    ):
        assert len(entries) == len(closed)
        np.testing.assert_allclose(closed[coordinates[name].indices], entries, rtol=1e-11)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_gradient_factors(widths):
    weights, target = network(widths)
    factors = gradient_factors(weights, product(weights) - target)
    for (a, b), gradient in zip(factors, jax.grad(linear_loss)(weights, target), strict=True):
        np.testing.assert_allclose(a.T @ b, gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_r_med_without_the_product_is_that_of_all_entries(widths):
    weights, _ = network(widths)
    expected = [hgeo.r_med(entries) for entries in hessian_diagonal(weights)]
    np.testing.assert_allclose(layer_r_med(weights), expected, rtol=1e-12)


def test_two_layer_diagonal_is_the_papers():
    weights, _ = network((5, 5, 1))
    (rows, _), (_, columns) = diagonal_factors(weights)
    np.testing.assert_allclose(rows, weights[1][0] ** 2)
    np.testing.assert_allclose(columns, np.sum(np.square(weights[0]), axis=1))


@pytest.mark.parametrize("widths", slow([(3, 3, 1), (2, 5, 1)], [(3, 3, 1)]), ids=str)
def test_rows_and_r_diag_are_the_dense_hessians(widths):
    weights, target = network(widths)
    dense = np.asarray(whole_hessian(weights, target))
    h, d = weights[0].shape
    hidden, output = jax.jit(hidden_row), jax.jit(output_row)
    rows = [hidden(weights, target, i, j) for i in range(h) for j in range(d)]
    rows += [output(weights, target, i) for i in range(h)]
    np.testing.assert_allclose(np.stack(rows), dense, rtol=1e-11, atol=1e-13)
    off = dense - np.diag(np.diagonal(dense))
    expected = np.linalg.norm(off, axis=1) / np.abs(np.diagonal(dense))
    np.testing.assert_allclose(two_layer_r_diag(weights, target), expected, rtol=1e-10)
    measured = jax.jit(dense_r_diag)(weights, weights, target)
    np.testing.assert_allclose(measured["dense_r_diag_mean"], expected.mean(), rtol=1e-10)
    np.testing.assert_allclose(measured["r_diag_mean"], expected.mean(), rtol=1e-10)
    np.testing.assert_allclose(measured["dense_r_diag_median"], np.median(expected), rtol=1e-10)


def test_mechanism_of_a_rank_one_network():
    u, v = jnp.array([1.0, -1.0, 1.0]), jnp.array([3.0, 4.0, 0.0])
    weights = (u[:, None] * v[None, :], u[None, :])
    measured = mechanism(weights, (jnp.outer(u, jnp.ones(3)), u[None, :]), jnp.ones((1, 3)))
    np.testing.assert_allclose(measured["rank_one_residual"], 0, atol=1e-15)
    np.testing.assert_allclose(leading_direction(weights)[0], v / 5, rtol=1e-12)
    for name, expected in {"spread": 0, "sign_agreement": 1, "update_spread": 0}.items():
        np.testing.assert_allclose(measured[name], expected, atol=1e-15)
    np.testing.assert_allclose(measured["r_med"], 1)


@pytest.mark.parametrize(("widths", "std"), [((3,), 1.0), ((3, 0, 1), 1.0), ((3, 1), -0.1)])
def test_bad_networks(widths, std):
    with pytest.raises(InputError, match=r"widths|negative"):
        initial_weights(jax.random.key(0), widths, std)
