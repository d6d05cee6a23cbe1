"""Microbatches: sums over a large batch, taken piece by piece."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.arguments import check_whole

PyTree = Any


def sum_over_microbatches(
    function: Callable[[PyTree, float], PyTree], batch: PyTree, size: int | None
) -> PyTree:
    """Σ over the pieces of `batch` of `function(piece, number of its examples)`.

    Args:
      function: gives a pytree of arrays, to be added up.
      batch: arrays with the examples along their leading axis; arrays without axes (a dropout
        key, a temperature) go whole to every piece.
      size: examples in a piece, the last of which may hold fewer; `None`, the batch in one piece,
        whose number of examples is then taken as 1.

    Raises:
      ValueError: `size` is below 1, or the arrays disagree on the number of examples.
    """
    if size is None:
        return function(batch, 1.0)
    check_whole("microbatch_size", size)
    if size < 1:
        raise ValueError(f"microbatch_size must be at least 1, not {size}")
    leaves, treedef = jax.tree.flatten(batch)
    lengths = {jnp.shape(leaf)[0] for leaf in leaves if jnp.ndim(leaf) > 0}
    if len(lengths) != 1:
        raise ValueError(
            "with microbatch_size, every array of the batch must have one number of examples along "
            f"its leading axis; they have {sorted(lengths) or 'none'}"
        )
    (length,) = lengths
    pieces, rest = divmod(length, size)

    def of_piece(start, count):
        cut = [
            jax.lax.dynamic_slice_in_dim(leaf, start, count) if jnp.ndim(leaf) > 0 else leaf
            for leaf in leaves
        ]
        return function(jax.tree.unflatten(treedef, cut), float(count))

    results = []
    if pieces:
        stacked = jax.lax.map(lambda k: of_piece(k * size, size), jnp.arange(pieces))
        results.append(jax.tree.map(lambda values: jnp.sum(values, axis=0), stacked))
    if rest:
        results.append(of_piece(pieces * size, rest))
    return jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *results)
