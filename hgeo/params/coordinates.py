"""Coordinates: the weights of each layer whose curvature is probed."""

import dataclasses
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from hgeo.arguments import check_key, check_whole
from hgeo.params.checks import check_layers
from hgeo.params.layers import Layer

# Weights of a layer from which on a permutation of them would take more than a gigabyte.
LARGE = 2**26


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Coordinates:
    """Positions in a layer's flat vector.

    Attributes:
      layer: the `Layer`; static.
      indices: integers of shape `(num,)`, positions in `layer.ravel(params)`.

    Raises:
      ValueError: an index lies outside the layer. Traced indices are not checked; one outside gives
        NaN in the result.

    Example:
      >>> layer = hgeo.find_layers({"kernel": jnp.ones((2, 3))})["kernel"]
      >>> hgeo.Coordinates(layer, jnp.array([0, 5])).indices.tolist()
      [0, 5]
    """

    layer: Layer = dataclasses.field(metadata={"static": True})
    indices: jax.Array

    def __post_init__(self):
        """Checks concrete indices only, since pytree operations replace them by other objects."""
        if not isinstance(self.layer, Layer):
            raise TypeError(f"layer must be one of hgeo.find_layers, not {self.layer!r}")
        indices = self.indices
        if not isinstance(indices, (np.ndarray, jax.Array)) or isinstance(indices, Tracer):
            return
        if not jnp.issubdtype(indices.dtype, jnp.integer):
            return
        outside = [i for i in np.ravel(np.asarray(indices)) if not 0 <= i < self.layer.size]
        if outside:
            raise ValueError(
                f"coordinates of layer {self.layer.name!r} must lie in 0 to {self.layer.size - 1}, "
                f"not {[int(i) for i in outside[:5]]}"
            )

    def check(self) -> None:
        """Raises a TypeError unless the indices are integers of shape `(num,)`."""
        indices = self.indices
        dtype, shape = getattr(indices, "dtype", None), getattr(indices, "shape", None)
        if dtype is None or shape is None or len(shape) != 1 or dtype.kind not in "iu":
            has = repr(indices) if dtype is None else f"{dtype} of shape {shape}"
            raise TypeError(
                f"coordinates of layer {self.layer.name!r} must be an array of integers of shape "
                f"(num,), not {has}"
            )

    @property
    def points(self) -> jax.Array:
        """The indices; a probe maps over their leading axis."""
        return self.indices

    def tangent(self, point: jax.Array, weights: jax.Array) -> jax.Array:
        """The unit vector of one coordinate, of the weights' dtype and placement."""
        return jnp.zeros_like(weights).at[point].set(1.0)

    def inside(self) -> jax.Array:
        """Whether each coordinate lies in the layer."""
        return (self.indices >= 0) & (self.indices < self.layer.size)


def sample_coordinates(
    layers: Mapping[str, Layer], num: int, key: jax.Array
) -> "OrderedDict[str, Coordinates]":
    """Draws `num` coordinates of each layer, uniformly and without replacement.

    The draw depends on the key and on the layer's name and size only. So the same key gives the
    same coordinates for every optimizer, repeat and step, and for any subset of the layers.

    Args:
      layers: what `find_layers` gives.
      num: the number of coordinates of each layer; a smaller layer gives all its coordinates, and
        hgeo warns of it.
      key: a PRNG key (`jax.random.key`).

    Returns:
      An `OrderedDict` of `Coordinates` by layer name, indices of shape `(min(num, size),)`,
      int32, ascending.

    Raises:
      ValueError: `num` is below 1, no layers are given, or a layer has 2³¹ weights or more.

    Example:
      >>> layers = hgeo.find_layers({"kernel": jnp.ones((8, 8))})
      >>> coordinates = hgeo.sample_coordinates(layers, 3, jax.random.key(0))
      >>> coordinates["kernel"].indices.shape
      (3,)

    Reference:
      Jiang, Malik, Li (2022), section 4: 200 coordinates a layer.
    """
    check_layers(layers)
    check_key(key)
    check_whole("num", num)
    if num < 1:
        raise ValueError(f"num must be at least 1, not {num}")
    if not layers:
        raise ValueError("no layers were given; give at least one")
    small = {name: layer.size for name, layer in layers.items() if layer.size < num}
    if small:
        warnings.warn(
            f"these layers have fewer than num={num} weights, so all of them are taken: "
            + ", ".join(f"{name} ({size})" for name, size in small.items()),
            stacklevel=2,
        )
    return OrderedDict((name, _draw(layer, num, key)) for name, layer in layers.items())


def _draw(layer: Layer, num: int, key: jax.Array) -> Coordinates:
    if layer.size >= 2**31:
        raise ValueError(f"layer {layer.name!r} must have fewer than 2³¹ weights, not {layer.size}")
    if layer.size <= num:
        return Coordinates(layer, jnp.arange(layer.size, dtype=jnp.int32))
    layer_key = jax.random.fold_in(key, zlib.crc32(layer.name.encode()))
    few_of_many = layer.size >= LARGE and num <= layer.size // 4
    drawn = (_distinct if few_of_many else _permuted)(layer_key, layer.size, num)
    return Coordinates(layer, jnp.sort(drawn).astype(jnp.int32))


def _permuted(key: jax.Array, size: int, num: int) -> jax.Array:
    """The first of a permutation of all positions, which takes 20 bytes a position."""
    return jax.random.choice(key, size, (num,), replace=False)


def _distinct(key: jax.Array, size: int, num: int) -> jax.Array:
    """The first distinct ones of independent draws, as uniform as a permutation's first.

    Of 2 num draws from at least 4 num positions more than 1.5 num are expected to be distinct.
    """
    drawn = jax.random.randint(key, (2 * num,), 0, size)
    order = jnp.argsort(drawn, stable=True)  # of equal ones the first draw comes first
    ordered = drawn[order]
    is_first = jnp.append(True, ordered[1:] != ordered[:-1])
    # The draws that repeat another go to the end.
    ranks = jnp.where(is_first, order, 2 * num)
    return ordered[jnp.argsort(ranks)[:num]]
