"""The matrix of a layer against the products that its own package computes with it."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.params.matrices import output_by_input

KEY = jax.random.key(0)


def _linen(module, *inputs):
    params = module.init(KEY, *inputs)
    return params, lambda x: module.apply(params, x)


def _equinox(module):
    return module, module


CASES = {
    "Linen Dense": (*_linen(nn.Dense(3, use_bias=False), jnp.ones(5)), (5,)),
    "Linen Conv": (
        *_linen(nn.Conv(3, (2, 2), padding="VALID", use_bias=False), jnp.ones((1, 2, 2, 5))),
        (1, 2, 2, 5),
    ),
    "Equinox Linear": (*_equinox(eqx.nn.Linear(5, 3, use_bias=False, key=KEY)), (5,)),
    "Equinox Conv": (
        *_equinox(eqx.nn.Conv2d(5, 3, 2, use_bias=False, key=KEY)),
        (5, 2, 2),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_matrix_maps_the_inputs_to_the_outputs(name):
    params, apply, shape = CASES[name]
    (layer,) = hgeo.find_layers(params).values()
    (leaf,) = layer.leaves(params)
    matrix = output_by_input(layer.parts[0], leaf)
    x = jax.random.normal(jax.random.key(1), shape)
    np.testing.assert_allclose(matrix @ x.ravel(), apply(x).ravel(), rtol=1e-5, atol=1e-6)


def test_the_projections_of_flaxs_attention_map_features_to_heads():
    attention = nn.MultiHeadDotProductAttention(num_heads=4, use_bias=False)
    x = jax.random.normal(KEY, (1, 7, 16))
    params = attention.init(KEY, x)
    for name, layer in hgeo.find_layers(params).items():
        (leaf,) = layer.leaves(params)
        matrix = output_by_input(layer.parts[0], leaf)
        assert matrix.shape == (16, 16)
        place = name.split("/")[1]
        expected = leaf.reshape(16, 16)  # (in, heads and width), or (heads and width, out)
        np.testing.assert_array_equal(matrix, expected.T, place)


def test_a_monitor_measures_the_rank_of_that_matrix():
    linear = eqx.nn.Linear(5, 16, use_bias=False, key=KEY)
    linear = eqx.tree_at(lambda m: m.weight, linear, linear.weight.at[3].mul(20.0))
    loss = lambda module, batch: jnp.mean(jax.vmap(module)(batch) ** 2)
    options = {"num": 4, "devices": jax.devices()[:1]}
    monitor = hgeo.Monitor(loss, hgeo.find_layers(linear), statistics=("low_rank",), **options)
    values = monitor(0, linear, jnp.ones((4, 5)))
    expected = hgeo.low_rank(linear.weight, 0.9)
    np.testing.assert_allclose(values["hgeo/r_u/weight"], expected.r_u, rtol=1e-5)
    np.testing.assert_allclose(values["hgeo/r_v/weight"], expected.r_v, rtol=1e-5)
    assert values["hgeo/r_u/weight"] > 5 * values["hgeo/r_v/weight"]
