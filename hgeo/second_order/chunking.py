"""Maps a function over many points in chunks, and reports progress."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.coordinate_axis import CoordinateAxis

PyTree = Any


def even_chunks(num_points: int, most: int) -> tuple[int, int]:
    """The number of chunks of at most `most` points, and their size: as even as possible."""
    chunks = max(1, math.ceil(num_points / most))
    return chunks, math.ceil(num_points / chunks)


def in_chunks(points: jax.Array, most: int, axis: CoordinateAxis | None = None) -> jax.Array:
    """Points in chunks of at most `most`, `(chunks, size, ...)`.

    All chunks have the same size, since a smaller last chunk would be compiled as a second program.
    The last point pads the last chunk; the caller cuts the padding from the results. With an axis
    of devices, `most` bounds each device's share of a chunk, and all shares are equal.
    """
    num_points = points.shape[0]
    shares = axis.size if axis else 1
    chunks, size = even_chunks(-(-num_points // shares), most)
    size *= shares
    filled = points[jnp.minimum(jnp.arange(chunks * size), num_points - 1)]
    return filled.reshape(chunks, size, *points.shape[1:])


def together(
    function: Callable[..., PyTree], axis: CoordinateAxis | None = None
) -> Callable[..., PyTree]:
    """The function of several points at once: vmapped, or called directly for a single point.

    So a function that can't be vmapped works in chunks of one. With an axis of devices, each device
    computes its share of the points.
    """
    split = axis.split if axis else lambda tree: tree

    def apply_to_several(*points):
        if jax.tree.leaves(points)[0].shape[0] > 1:
            return split(jax.vmap(function)(*split(points)))
        result = function(*jax.tree.map(lambda x: x[0], points))
        return jax.tree.map(lambda x: x[None], result)

    return apply_to_several


def mapped(
    function: Callable[[jax.Array], PyTree],
    points: jax.Array,
    most: int,
    report: Callable[[Any], None] | None = None,
    per_point: int = 1,
    axis: CoordinateAxis | None = None,
) -> PyTree:
    """Applies `function` to every point, to at most `most` of them together.

    Args:
      function: of one point.
      points: along the leading axis.
      most: the largest number of points in a chunk; a chunk of 1 is not vmapped.
      report: called by the running program with `per_point` times the number of points done.
      per_point: the number that `report` counts for each point.
      axis: over which the points of a chunk are split; `most` then bounds each share.
    """
    num_points = points.shape[0]
    if report is None and num_points <= most and axis is None:
        return together(function)(points)
    chunks = in_chunks(points, most, axis)

    def apply_to_chunk(numbered):
        number, chunk = numbered
        results = together(function, axis)(chunk)
        if report is None:
            return results
        done = jnp.minimum((number + 1) * chunks.shape[1], num_points) * per_point
        # The barrier makes the report wait for the results.
        results, done = jax.lax.optimization_barrier((results, done))
        jax.debug.callback(report, done)
        return results

    results = jax.lax.map(apply_to_chunk, (jnp.arange(len(chunks)), chunks))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_points], results)
