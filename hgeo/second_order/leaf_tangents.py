"""The tangents of a layer's leaves along one coordinate or direction."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hgeo.params.layers import Layer
from hgeo.params.leaf_paths import LeafSlice
from hgeo.second_order.one_hot import Tangent, dense, one_hot


def tangents_of_coordinate(
    layer: Layer, sources: Sequence[int], leaves: Sequence[jax.Array], index: jax.Array
) -> dict[int, Tangent]:
    """The tangents of one weight, one-hot where each leaf holds one part of the layer.

    Args:
      layer: the layer.
      sources: for each of its parts, the leaf that holds it.
      leaves: the leaves' values.
      index: position in the layer's flat vector.
    """
    tangents: dict[int, Tangent] = {}
    start = 0
    for part, source, size in zip(layer.parts, sources, layer.sizes, strict=True):
        leaf_slice = part if isinstance(part, LeafSlice) else None
        inside = (index >= start) & (index < start + size)
        tangent = one_hot(leaves[source], index - start, inside, leaf_slice)
        if source in tangents:
            tangent = dense(tangents[source]) + dense(tangent)
        tangents[source] = tangent
        start += size
    return tangents


def tangents_of_direction(
    layer: Layer, sources: Sequence[int], leaves: Sequence[jax.Array], vector: jax.Array
) -> dict[int, Tangent]:
    """The tangents along a flat vector of the layer's size; other arguments as for a coordinate."""
    tangents: dict[int, Tangent] = {}
    for part, source, tangent in zip(layer.parts, sources, layer.split(vector), strict=True):
        if isinstance(part, LeafSlice):
            tangent = part.put(jnp.zeros_like(leaves[source]), tangent)
        tangents[source] = tangent + dense(tangents[source]) if source in tangents else tangent
    return tangents
