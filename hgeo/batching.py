"""Means over a batch of functions linear in the loss, by microbatch and over devices."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from hgeo.arguments import check_whole
from hgeo.devices import shares_of
from hgeo.losses import Loss, as_weighted, over_devices

PyTree = Any
Total = Callable[[PyTree], jax.Array]


def averaged(
    function: Callable[[Total, PyTree, PyTree], PyTree],
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    *,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
) -> PyTree:
    """Computes `function` of the mean loss from its values for the pieces of a batch.

        Σ_p function(total_p) / Σ_p weight_p,   p the pieces of the batch on all devices

    Args:
      function: `function(total, params, piece)` -> a pytree of arrays, linear in `total`, which is
        the sum of the losses of `piece` as a function of params.
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: its first argument.
      batch: its second argument.
      microbatch_size: examples in a piece; `None`: the whole batch is one piece.
      precision: of matrix products, as in `jax.default_matmul_precision`; `None`: the precision
        that is set outside.
      axis_name: the devices' axis, over which results and weights are summed; `None`: no axis.

    Raises:
      ValueError: a loss that is not scalar, a bad `microbatch_size`, a total weight of zero.
    """
    params = over_devices(params, axis_name)

    def sums(piece, count):
        total = lambda params: jnp.asarray(as_weighted(loss, params, piece, count).total)
        return function(total, params, piece), as_weighted(loss, params, piece, count).weight

    with matmul_precision(precision):
        results, weight = sum_over_microbatches(sums, batch, microbatch_size)
    return divided(results, weight, axis_name)


def first_piece(
    function: Callable[[Total, PyTree, PyTree], Any],
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    *,
    microbatch_size: int | None,
    axis_name: str | None,
) -> Any:
    """The result of a function for the first piece of `averaged`, by tracing alone.

    Args:
      function: as in `averaged`, but it may return anything.
      loss: the same.
      params: any pytree of arrays or of `jax.ShapeDtypeStruct`.
      batch: the same.
      microbatch_size: as in `averaged`.
      axis_name: the same; call the function where that axis is bound.
    """
    results = []

    def look(total, params, piece):
        results.append(function(total, params, piece))
        return jnp.zeros(())

    traced = lambda params, batch: averaged(
        look, loss, params, batch, microbatch_size=microbatch_size, axis_name=axis_name
    )
    jax.eval_shape(traced, params, batch)
    return results[0]


def divided(results: PyTree, weight: jax.Array, axis_name: str | None) -> PyTree:
    """Results summed over the devices, divided by the sum of the devices' weights.

    Raises:
      ValueError: the total weight is zero.
    """
    if axis_name is not None:
        results, weight = jax.lax.psum((results, weight), axis_name)
    if not isinstance(weight, Tracer) and np.asarray(weight) == 0:
        raise ValueError("the batch's total weight must not be 0: its mean loss is undefined")
    return jax.tree.map(lambda x: x / weight.astype(x.dtype), results)


def matmul_precision(precision: str | None) -> contextlib.AbstractContextManager:
    """Sets the precision of matrix products traced in the context; `None` changes nothing."""
    try:
        return jax.default_matmul_precision(precision) if precision else contextlib.nullcontext()
    except ValueError as error:
        raise ValueError(
            "precision must be None, 'highest', 'high', 'default' or another of "
            f"jax.default_matmul_precision, not {precision!r}"
        ) from error


def sum_over_microbatches(
    function: Callable[[PyTree, float], PyTree], batch: PyTree, size: int | None
) -> PyTree:
    """Sums `function(piece, number of its examples)` over the pieces of `batch`.

    Args:
      function: returns a pytree of arrays.
      batch: arrays with the examples along their leading axis; scalars (a dropout key, a
        temperature) belong to every piece.
      size: examples in a piece; the last piece may hold fewer. `None`: the batch is one piece, and
        its number of examples counts as 1.

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
            "with microbatch_size, all arrays of the batch must have the same number of examples "
            f"along their leading axis; they have {sorted(lengths) or 'none'}"
        )
    (length,) = lengths
    pieces, rest = divmod(length, size)

    # If the batch is sharded, each piece takes examples of every share. A piece of neighbouring
    # examples would lie on a single device.
    is_spread = any(jnp.ndim(leaf) and shares_of(leaf) > 1 for leaf in leaves)

    def cut_out(leaf, start, count):
        if not jnp.ndim(leaf):
            return leaf
        if is_spread and count == size:
            by_place = leaf[: pieces * size].reshape(size, pieces, *leaf.shape[1:])
            return jax.lax.dynamic_index_in_dim(by_place, start // size, 1, keepdims=False)
        return jax.lax.dynamic_slice_in_dim(leaf, start, count)

    def of_piece(start, count):
        cut = [cut_out(leaf, start, count) for leaf in leaves]
        return function(jax.tree.unflatten(treedef, cut), float(count))

    results = []
    if pieces:
        stacked = jax.lax.map(lambda k: of_piece(k * size, size), jnp.arange(pieces))
        results.append(jax.tree.map(lambda values: jnp.sum(values, axis=0), stacked))
    if rest:
        results.append(of_piece(pieces * size, rest))
    return jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *results)
