"""Coordinates: what they depend on, and that the draw is uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.params import coordinates


def _layers(**shapes):
    return hgeo.find_layers({name: jnp.ones(shape) for name, shape in shapes.items()})


def test_they_depend_on_key_name_and_size_alone():
    key = jax.random.key(3)
    alone = hgeo.sample_coordinates(_layers(b=(10, 10)), 7, key)
    among = hgeo.sample_coordinates(_layers(a=(9, 9), b=(4, 25), c=(8, 8)), 7, key)
    np.testing.assert_array_equal(alone["b"].indices, among["b"].indices)
    assert list(among) == ["a", "b", "c"]
    other_name = hgeo.sample_coordinates(_layers(d=(10, 10)), 7, key)
    other_key = hgeo.sample_coordinates(_layers(b=(10, 10)), 7, jax.random.key(4))
    assert np.any(other_name["d"].indices != alone["b"].indices)
    assert np.any(other_key["b"].indices != alone["b"].indices)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_they_are_drawn_without_replacement_and_ascend(seed, large, monkeypatch):
    shape, num = ((29, 31), 200) if large else ((13, 17), 200)
    monkeypatch.setattr(coordinates, "LARGE", 1 if large else 2**26)
    indices = hgeo.sample_coordinates(_layers(a=shape), num, jax.random.key(seed))["a"].indices
    assert indices.dtype == jnp.int32
    assert indices.shape == (num,)
    assert np.all(np.diff(indices) > 0)
    assert np.all((indices >= 0) & (indices < shape[0] * shape[1]))


@pytest.mark.parametrize("large", [1, 2**26])
def test_every_weight_is_drawn_equally_often(large, monkeypatch):
    monkeypatch.setattr(coordinates, "LARGE", large)
    layers = _layers(a=(4, 5))
    draw = jax.vmap(lambda key: hgeo.sample_coordinates(layers, 5, key)["a"].indices)
    keys = jax.random.split(jax.random.key(0), 4000)
    counts = np.bincount(np.ravel(draw(keys)), minlength=20)
    # 4000 draws of 5 out of 20: each 1000 times, with a standard deviation of 27.4.
    assert np.all(np.abs(counts - 1000) < 5 * 27.4)


def test_a_small_layer_gives_all_it_has_and_says_so():
    with pytest.warns(UserWarning, match=r"a \(6\)"):
        drawn = hgeo.sample_coordinates(_layers(a=(2, 3), b=(5, 5)), 10, jax.random.key(0))
    np.testing.assert_array_equal(drawn["a"].indices, np.arange(6))
    assert drawn["b"].indices.shape == (10,)


def test_they_pass_through_jit_with_static_structure():
    coordinates = hgeo.sample_coordinates(_layers(a=(5, 5)), 4, jax.random.key(0))
    doubled = jax.jit(lambda c: jax.tree.map(lambda x: x // 2, c))(coordinates)
    assert doubled["a"].layer == coordinates["a"].layer
    np.testing.assert_array_equal(doubled["a"].indices, coordinates["a"].indices // 2)
