"""Mapping a function over many points in chunks, with word of how far it has come."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def mapped(
    function: Callable[[jax.Array], jax.Array],
    points: jax.Array,
    size: int,
    report: Callable[[Any], None] | None = None,
    per_point: int = 1,
) -> jax.Array:
    """`function` of every point, `size` of them together.

    Args:
      function: of one point.
      points: along the leading axis.
      size: points in a chunk, which are vmapped.
      report: called by the running program with `per_point` times the number of points done.
      per_point: what one point counts for.
    """
    if report is None:
        return jax.lax.map(function, points, batch_size=size)
    num = points.shape[0]
    chunks = math.ceil(num / size)
    # The last chunk is filled up with its last point, whose results are cut off.
    padded = points[jnp.minimum(jnp.arange(chunks * size), num - 1)]

    def of_chunk(numbered):
        number, chunk = numbered
        results = jax.vmap(function)(chunk)
        done = jnp.minimum((number + 1) * size, num) * per_point
        # It waits for the results, so that it tells what is done and not what is begun.
        results, done = jax.lax.optimization_barrier((results, done))
        jax.debug.callback(report, done)
        return results

    numbered = jnp.arange(chunks), padded.reshape(chunks, size, *points.shape[1:])
    results = jax.lax.map(of_chunk, numbered)
    return results.reshape(chunks * size, *results.shape[2:])[:num]
