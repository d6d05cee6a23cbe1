"""Layers in every kind of pytree, and every way to select them."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import hgeo
from tests.probes.dense import quick


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Weights:
    first: Any
    second: Any


def _two():
    return jnp.arange(6.0).reshape(2, 3), jnp.arange(12.0).reshape(3, 4)


def _nnx_state():
    class Net(nnx.Module):
        def __init__(self):
            a, b = _two()
            self.a, self.b = nnx.Param(a), nnx.Param(b)

    return nnx.state(Net())


class _Module(eqx.Module):
    first: jax.Array
    second: jax.Array
    name: str = eqx.field(static=True, default="net")


PYTREES = {
    "dict": lambda: {"a": _two()[0], "b": _two()[1]},
    "frozen": lambda: flax.core.freeze({"net": {"a": _two()[0], "b": _two()[1]}}),
    "nnx": _nnx_state,
    "equinox": lambda: _Module(*_two()),
    "list": lambda: list(_two()),
    "tuple": lambda: {"net": _two()},
    "dataclass": lambda: Weights(*_two()),
}


@pytest.mark.parametrize("kind", PYTREES)
def test_layers_are_found_and_put_back_in_every_pytree(kind):
    params = PYTREES[kind]()
    layers = hgeo.find_layers(params)
    assert [layer.shapes for layer in layers.values()] == [((2, 3),), ((3, 4),)]
    for layer in layers.values():
        vector = layer.ravel(params)
        changed = layer.replace(params, vector + 1.0)
        assert jax.tree.structure(changed) == jax.tree.structure(params)
        np.testing.assert_array_equal(layer.ravel(changed), vector + 1.0)
        moved = sum(
            bool(jnp.any(a != b))
            for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(changed), strict=True)
        )
        assert moved == 1


@pytest.mark.parametrize("kind", PYTREES)
def test_the_diagonal_of_a_quadratic_is_right_in_every_pytree(kind):
    params = PYTREES[kind]()
    layers = hgeo.find_layers(params)
    loss = lambda params, batch: sum(jnp.sum(batch * leaf**2) for leaf in jax.tree.leaves(params))
    coordinates = hgeo.sample_coordinates(layers, 4, jax.random.key(0))
    probe = quick(functools.partial(hgeo.sampled_diagonal, loss))
    for entries in probe(params, jnp.array(1.5), coordinates).values():
        np.testing.assert_allclose(entries, 3.0)


def test_other_leaves_are_left_alone():
    params = {
        "kernel": jnp.ones((2, 2)),
        "step": jnp.array([[1, 2]]),
        "mask": jnp.ones((2, 2), bool),
        "rng": jax.random.key(0),
    }
    layers = hgeo.find_layers(params)
    assert list(layers) == ["kernel"]
    changed = layers["kernel"].replace(params, jnp.zeros(4))
    assert changed["rng"].dtype == params["rng"].dtype
    assert changed["step"] is params["step"]

    def loss(params, batch):
        noise = jax.random.normal(params["rng"], (2, 2))
        return jnp.sum(jnp.where(params["mask"], params["kernel"] + batch * noise, 0.0) ** 3)

    coordinates = hgeo.sample_coordinates(layers, 4, jax.random.key(1))
    expected = 6.0 * params["kernel"].ravel()
    found = quick(functools.partial(hgeo.sampled_diagonal, loss))(
        params, jnp.array(0.0), coordinates
    )
    np.testing.assert_allclose(found["kernel"], expected)


def test_several_leaves_of_several_dtypes_are_one_layer():
    params = {
        "q": jnp.full((2, 2), 0.5, jnp.bfloat16),
        "k": jnp.full((2, 3), 2.0, jnp.float32),
        "v": jnp.full((3,), 3.0, jnp.float16),
    }
    (layer,) = hgeo.find_layers(params, {"qkv": ["k", "q", "v"]}).values()
    vector = layer.ravel(params)
    assert vector.dtype == jnp.float32
    np.testing.assert_array_equal(vector, [2.0] * 6 + [0.5] * 4 + [3.0] * 3)
    changed = layer.replace(params, vector)
    assert {name: leaf.dtype for name, leaf in changed.items()} == {
        name: leaf.dtype for name, leaf in params.items()
    }

    def loss(params, batch):
        return sum(jnp.sum(leaf.astype(jnp.float32) ** 3) for leaf in params.values())

    coordinates = {"qkv": hgeo.Coordinates(layer, jnp.arange(13))}
    for mode in ("adjoint_weighted", "forward_over_reverse"):
        probe = quick(functools.partial(hgeo.sampled_diagonal, loss, mode=mode))
        found = probe(params, jnp.zeros(1), coordinates)
        np.testing.assert_allclose(found["qkv"], 6.0 * vector)


def test_slices_of_a_stack_are_layers_of_their_own():
    params = {"blocks": {"kernel": jnp.arange(12.0).reshape(3, 2, 2)}, "head": jnp.ones((2, 1))}
    layers = hgeo.find_layers(params, stacked="^blocks")
    assert list(layers) == [f"blocks/kernel[{k}]" for k in range(3)] + ["head"]
    layer = layers["blocks/kernel[1]"]
    np.testing.assert_array_equal(layer.ravel(params), [4.0, 5.0, 6.0, 7.0])
    changed = layer.replace(params, jnp.zeros(4))["blocks"]["kernel"]
    np.testing.assert_array_equal(changed[1], jnp.zeros((2, 2)))
    np.testing.assert_array_equal(changed[::2], params["blocks"]["kernel"][::2])
    named = hgeo.find_layers(params, [hgeo.LeafSlice("blocks/kernel", 1)])
    assert next(iter(named.values())).parts == layer.parts


def test_two_slices_of_one_stack_are_one_layer():
    params = {"kernel": jnp.arange(1.0, 13.0).reshape(3, 4)}
    parts = [hgeo.LeafSlice("kernel", 2), hgeo.LeafSlice("kernel", 0)]
    (layer,) = hgeo.find_layers(params, {"both": parts}).values()
    loss = lambda params, batch: jnp.sum(params["kernel"] ** 3)
    found = quick(functools.partial(hgeo.sampled_diagonal, loss))(
        params, jnp.zeros(1), {"both": hgeo.Coordinates(layer, jnp.arange(8))}
    )
    np.testing.assert_allclose(found["both"], 6.0 * layer.ravel(params))


def test_the_default_leaves_out_biases_scales_and_embeddings():
    ones = jnp.ones((2, 2))
    params = {
        "Embed_0": {"embedding": ones},
        "attention": {"query": {"kernel": ones, "bias": ones}},
        "LayerNorm_0": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
        "pos_embedding": ones,
        "TokenEmbed": {"table": ones},
        "dense": {"kernel": ones},
        "unbiased": {"kernel": ones},
    }
    expected = ["attention/query/kernel", "dense/kernel", "unbiased/kernel"]
    assert list(hgeo.find_layers(params)) == expected


@pytest.mark.parametrize("name", ["bias", "scale", "embed", "embedding", "pos_embeddings"])
def test_the_default_leaves_out_matrices_by_name(name):
    params = {"kernel": jnp.ones((2, 3)), "norm": {name: jnp.ones((2, 3))}}
    assert list(hgeo.find_layers(params)) == ["kernel"]


def test_selection_by_pattern_predicate_sequence_and_mapping():
    params = {"b": {"w": jnp.ones((2, 2))}, "a": {"w": jnp.ones((3, 3)), "bias": jnp.ones(3)}}
    assert list(hgeo.find_layers(params, r"^a/")) == ["a/bias", "a/w"]
    assert list(hgeo.find_layers(params, lambda path, leaf: leaf.size == 4)) == ["b/w"]
    assert list(hgeo.find_layers(params, ["b/w", "a/w"])) == ["b/w", "a/w"]
    named = hgeo.find_layers(params, {"two": ("b/w", "a/w"), "one": "a/bias"})
    assert [(name, layer.size) for name, layer in named.items()] == [("two", 13), ("one", 3)]


def test_layers_of_abstract_params_are_the_same():
    params = {"kernel": jnp.ones((2, 3))}
    assert hgeo.find_layers(jax.eval_shape(lambda: params)) == hgeo.find_layers(params)
