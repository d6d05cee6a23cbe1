"""Paths of leaves in trees with awkward keys: each names its leaf, or an error is raised."""

import collections
import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import hgeo

W = jnp.ones((2, 2))


class Pair(NamedTuple):
    first: Any
    value: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Box:
    value: Any
    kernel: Any


@jax.tree_util.register_pytree_node_class
class Unnamed:
    """A registered node without keys."""

    def __init__(self, *children):
        self.children = children

    def tree_flatten(self):
        return self.children, None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children)


NAMES = st.sampled_from(["a", "b", "a/b", "b/value", "value", "0", "1", "a[0]", "", "a.b", "/"])
KEYS = st.one_of(NAMES, st.sampled_from([0, 1]))


class Leaf:
    """The place of a leaf; a plain object, so that it is no pytree."""


def nodes(children):
    return st.one_of(
        st.dictionaries(NAMES, children, min_size=1, max_size=3),
        st.dictionaries(KEYS, children, min_size=1, max_size=3).map(collections.OrderedDict),
        st.lists(children, min_size=1, max_size=3),
        st.tuples(children, children),
        st.builds(Pair, children, children),
        st.builds(Box, children, children),
        st.builds(Unnamed, children, children),
        st.builds(nnx.Param, st.builds(Leaf)),
    )


TREES = st.recursive(st.builds(Leaf), nodes, max_leaves=6)


def paths_of(tree):
    """The paths as a person would write them, in the tree's order."""
    if isinstance(tree, Leaf):
        return [()]
    if isinstance(tree, nnx.Variable):
        return [()]
    if isinstance(tree, collections.OrderedDict):
        items = list(tree.items())
    elif isinstance(tree, dict):
        items = sorted(tree.items())
    elif isinstance(tree, Pair):
        items = list(tree._asdict().items())
    elif isinstance(tree, Box):
        items = [("value", tree.value), ("kernel", tree.kernel)]
    else:
        items = list(enumerate(tree.children if isinstance(tree, Unnamed) else tree))
    return [(str(key), *rest) for key, child in items for rest in paths_of(child)]


@settings(max_examples=30)
@given(TREES)
def test_every_leaf_of_a_random_tree_has_its_own_value_or_is_refused(tree):
    names = ["/".join(path) for path in paths_of(tree)]
    structure = jax.tree.structure(tree)
    params = jax.tree.unflatten(structure, [jnp.full((1,), 2.0 + k) for k in range(len(names))])
    if len(set(names)) < len(names):
        with pytest.raises(ValueError, match="two leaves have one path"):
            hgeo.find_layers(params, lambda path, leaf: True)
        return
    layers = hgeo.find_layers(params, lambda path, leaf: True)
    assert list(layers) == names

    def loss(params, batch):
        pairs = enumerate(jax.tree.leaves(params))
        return sum((0.5 * jnp.sum((1.0 + k) * batch * w**2) for k, w in pairs), 0.0)

    coordinates = {name: hgeo.Coordinates(layer, jnp.array([0])) for name, layer in layers.items()}
    found = hgeo.sampled_diagonal(loss, params, jnp.ones(1), coordinates)
    assert [float(found[name][0]) for name in names] == [1.0 + k for k in range(len(names))]
    for k, layer in enumerate(layers.values()):
        changed = jax.tree.leaves(layer.replace(params, jnp.array([-1.0])))
        expected = [-1.0 if n == k else 2.0 + n for n in range(len(names))]
        assert [float(leaf[0]) for leaf in changed] == expected


def test_a_key_called_value_is_a_name_like_any_other():
    params = {"attention": {"query": W, "value": W}}
    assert list(hgeo.find_layers(params)) == ["attention/query", "attention/value"]
    assert list(hgeo.find_layers(params, ["attention/value"])) == ["attention/value"]


def test_the_value_of_flax_variables_is_not_named():
    class Attention(nnx.Module):
        def __init__(self):
            self.query, self.value = nnx.Param(W), nnx.Param(W)
            self.rest = nnx.Param({"value": W})

    names = ["query", "rest/value/value", "value"]
    assert list(hgeo.find_layers(nnx.state(Attention()))) == names
    assert list(hgeo.find_layers({"a": nnx.state(Attention())})) == [f"a/{n}" for n in names]
    initial = nn.with_partitioning(nn.initializers.ones, ("in", "out"))
    boxed = nn.Dense(2, kernel_init=initial).init(jax.random.key(0), W)
    assert list(hgeo.find_layers(boxed)) == ["params/kernel"]


def test_two_leaves_of_one_path_are_refused_and_both_are_named():
    params = {"a": {"b": W}, "a/b": 10 * W, "z": 100 * W}
    with pytest.raises(ValueError, match=r"'a/b': \['a'\]\['b'\] and \['a/b'\]"):
        hgeo.find_layers(params)
    layers = hgeo.find_layers({"z": W})  # found elsewhere
    with pytest.raises(ValueError, match="two leaves have one path"):
        layers["z"].replace(params, jnp.zeros(4))
    numbers = collections.OrderedDict([(0, W), ("0", W)])
    with pytest.raises(ValueError, match=r"'0': \[0\] and \['0'\]"):
        hgeo.find_layers(numbers)


@pytest.mark.parametrize(
    ("select", "stacked", "message"),
    [
        (None, "^a$", r"two layers would have the name 'a\[0\]', slice 0 of 'a' and leaf 'a\[0\]'"),
        (["a", "a"], None, "two layers would have the name 'a', leaf 'a' and leaf 'a'"),
        ({0: "a", "0": "b"}, None, "two layers would have the name '0', leaf 'a' and leaf 'b'"),
        ({"ab": ["a", "a"]}, None, "layer 'ab' holds the weights of 'a' twice"),
        ({"ab": ["a", hgeo.LeafSlice("a", 0)]}, None, r"holds the weights of 'a\[0\]' twice"),
        (
            {"ab": [hgeo.LeafSlice("a", 0, 1), hgeo.LeafSlice("a", 0, -1, 2)]},
            None,
            r"holds the weights of 'a\[:, 0:2\]' twice: slice :, 0 of 'a' with slice :, 0:2 of 'a'",
        ),
        (
            {"ab": [hgeo.LeafSlice("a", 0), hgeo.LeafSlice("a", 1, 1)]},
            None,
            r"holds the weights of 'a\[:, 1\]' twice",
        ),
        ({"ab": []}, None, "layer 'ab' must hold a leaf"),
        (["c"], "c", "layer 'c': no floating leaf 'c'|must match a selected leaf"),
        ({"s": "s"}, "s", "matches 's', a scalar, which has no axis of layers"),
        (None, "x", "stacked='x' must match a selected leaf; selected are"),
        ("(", None, r"select='\(' must be a regular expression"),
        (None, "(", r"stacked='\(' must be a regular expression"),
    ],
)
def test_names_of_layers_that_are_not_unique(select, stacked, message):
    params = {"a": W, "a[0]": W, "b": W, "s": jnp.array(1.0)}
    with pytest.raises(ValueError, match=message):
        hgeo.find_layers(params, select, stacked=stacked)


def test_leaves_of_another_shape_or_dtype_are_not_put_in():
    layer = hgeo.find_layers({"a": W})["a"]
    with pytest.raises(ValueError, match=r"takes an array of shape \(2, 2\) for 'a', not \(4,\)"):
        layer.replace_leaves({"a": W}, (jnp.ones(4),))
    with pytest.raises(ValueError, match="must be floating, but these params have int32 at 'a'"):
        layer.ravel({"a": np.ones((2, 2), np.int32)})
