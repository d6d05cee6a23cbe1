"""Directions: vectors of a layer along which its curvature is probed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.params.layers import Layer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Directions:
    """Vectors in a layer's weight space.

    Attributes:
      layer: the `Layer`; static.
      vectors: of shape `(num, layer.size)`, floating, in the order of `layer.ravel(params)`.

    Raises:
      ValueError: the vectors have another shape.

    Example:
      >>> layer = hgeo.find_layers({"kernel": jnp.ones((2, 3))})["kernel"]
      >>> hgeo.Directions(layer, jnp.ones((4, 6))).vectors.shape
      (4, 6)
    """

    layer: Layer = dataclasses.field(metadata={"static": True})
    vectors: jax.Array

    def __post_init__(self):
        """Checks arrays only, since pytree operations replace the vectors by other objects."""
        if isinstance(self.vectors, (np.ndarray, jax.Array)) and self.vectors.ndim == 2:
            self.check()

    def check(self) -> None:
        """Raises a ValueError unless the vectors have the shape `(num, layer.size)`."""
        shape = jnp.shape(self.vectors)
        if len(shape) != 2 or shape[1] != self.layer.size:
            raise ValueError(
                f"directions of layer {self.layer.name!r} must have shape "
                f"(num, {self.layer.size}), not {shape}"
            )

    @property
    def points(self) -> jax.Array:
        """The vectors; a probe maps over their leading axis."""
        return self.vectors

    def tangent(self, point: jax.Array, weights: jax.Array) -> jax.Array:
        """A direction as a vector of the weights' dtype and placement."""
        return jnp.zeros_like(weights) + point.astype(weights.dtype)

    def inside(self) -> jax.Array:
        """Whether each direction lies in the layer's space, which is always so."""
        return jnp.ones(self.vectors.shape[:1], bool)
