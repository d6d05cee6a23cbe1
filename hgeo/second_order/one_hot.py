"""One-hot tangents, which are zero but at one position along some axes, and operations on them.

The tangent of one weight is a one-hot array. Its product with activations is a column, and the next
product is an outer product. As dense arrays, each would cost a dense matrix product.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from hgeo.params.leaf_paths import LeafSlice


@dataclasses.dataclass(frozen=True)
class OneHot:
    """An array of shape `shape`, zero but at `index` along `axes`.

    Attributes:
      values: the entries at `index`: an array over the other axes, in order.
      axes: ascending.
      index: an integer for each of `axes`, possibly traced.
      shape: of the whole array.
    """

    values: jax.Array
    axes: tuple[int, ...]
    index: tuple[Any, ...]
    shape: tuple[int, ...]

    def at(self, array: jax.Array) -> jax.Array:
        """The entries of an array of the same shape at the positions of `values`."""
        for axis, position in reversed(list(zip(self.axes, self.index, strict=True))):
            array = jax.lax.dynamic_index_in_dim(array, position, axis, keepdims=False)
        return array

    def with_values(self, values: jax.Array) -> "OneHot":
        """The same positions with other values."""
        return dataclasses.replace(self, values=values)


Tangent: TypeAlias = jax.Array | OneHot


def one_hot(leaf: jax.Array, flat_index: Any, inside: Any, part: LeafSlice | None) -> OneHot:
    """The tangent of one weight of a leaf.

    Args:
      leaf: the leaf, of which only shape, dtype and placement matter.
      flat_index: position in the part of the leaf, ravelled row by row.
      inside: whether the weight lies in this leaf; if not, the tangent is zero.
      part: the slice of the leaf that belongs to the layer; `None` for the whole leaf.
    """
    shape = leaf.shape if part is None else part.shape_in(leaf.shape)
    index = _unravel(jnp.where(inside, flat_index, 0), shape)
    if part is not None:
        index = [jnp.zeros_like(flat_index) + k for k in part.position(index, leaf.ndim)]
    # Built from the leaf, so that under shard_map both vary over the same axes.
    one = jnp.ones_like(jax.lax.slice(jnp.ravel(leaf), (0,), (1,)).reshape(()))
    values = jnp.where(inside, one, jnp.zeros_like(one))
    return OneHot(values, tuple(range(leaf.ndim)), tuple(index), leaf.shape)


def dense(tangent: Tangent) -> jax.Array:
    """The tangent as a dense array."""
    if not isinstance(tangent, OneHot):
        return tangent
    mask = None
    for axis, position in zip(tangent.axes, tangent.index, strict=True):
        count = jax.lax.broadcasted_iota(jnp.asarray(position).dtype, tangent.shape, axis)
        here = count == jnp.broadcast_to(position, tangent.shape)
        mask = here if mask is None else mask & here
    values = jnp.expand_dims(tangent.values, tangent.axes)
    if mask is None:
        return values
    values = jnp.broadcast_to(values, tangent.shape)
    return jnp.where(mask, values, jnp.zeros_like(values))


def scaled(tangent: Tangent, factor: jax.Array | None) -> Tangent:
    """The tangent times an array of its shape; `None` means ones."""
    if factor is None:
        return tangent
    if isinstance(tangent, OneHot):
        return tangent.with_values(tangent.values * tangent.at(factor))
    return tangent * factor


def cast(tangent: Tangent, dtype: Any) -> Tangent:
    """The tangent in another dtype."""
    if isinstance(tangent, OneHot):
        return tangent.with_values(tangent.values.astype(dtype))
    return tangent.astype(dtype)


def reduce_sum(tangent: Tangent, axes: Sequence[int]) -> Tangent:
    """The tangent's sum over some axes."""
    if not isinstance(tangent, OneHot):
        return jnp.sum(tangent, axis=tuple(axes))
    rest = [axis for axis in range(len(tangent.shape)) if axis not in tangent.axes]
    values = jnp.sum(tangent.values, axis=tuple(k for k, axis in enumerate(rest) if axis in axes))
    kept = [axis for axis in range(len(tangent.shape)) if axis not in axes]
    return _rebuilt(values, kept, tangent)


def transpose(tangent: Tangent, permutation: Sequence[int]) -> Tangent:
    """The tangent with its axes in another order."""
    if not isinstance(tangent, OneHot):
        return jnp.transpose(tangent, permutation)
    rest = [axis for axis in range(len(tangent.shape)) if axis not in tangent.axes]
    order = [rest.index(axis) for axis in permutation if axis in rest]
    return _rebuilt(jnp.transpose(tangent.values, order), permutation, tangent)


def reshape(tangent: Tangent, shape: Sequence[int]) -> Tangent:
    """The tangent in another shape; one-hot if it was one-hot along every axis."""
    shape = tuple(shape)
    if isinstance(tangent, OneHot) and len(tangent.axes) == len(tangent.shape):
        flat = jnp.zeros_like(tangent.index[0]) if tangent.index else 0
        for size, position in zip(tangent.shape, tangent.index, strict=True):
            flat = flat * size + position
        return OneHot(tangent.values, tuple(range(len(shape))), _unravel(flat, shape), shape)
    return jnp.reshape(dense(tangent), shape)


def dot_general(left: Tangent, right: Tangent, **params: Any) -> Tangent:
    """`jax.lax.dot_general`; of two one-hot operands the right one is treated as dense."""
    if isinstance(left, OneHot) and isinstance(right, OneHot):
        right = dense(right)
    numbers = params.pop("dimension_numbers")
    if isinstance(left, OneHot) and not set(numbers[1][0]) & set(left.axes):
        return _dot(left, right, numbers, params, first=True)
    if isinstance(right, OneHot) and not set(numbers[1][1]) & set(right.axes):
        return _dot(right, left, numbers, params, first=False)
    return jax.lax.dot_general(dense(left), dense(right), numbers, **params)


def _dot(sparse, other, numbers, params, *, first):
    (contract, batch) = numbers if first else [pair[::-1] for pair in numbers]
    rest = [axis for axis in range(len(sparse.shape)) if axis not in sparse.axes]
    where = dict(zip(sparse.axes, sparse.index, strict=True))
    taken, pairs = {}, []
    for mine, its in zip(*contract, strict=True):
        if mine in where:
            taken[its] = where[mine]
        else:
            pairs.append((mine, its))
    for axis in sorted(taken, reverse=True):
        other = jax.lax.dynamic_index_in_dim(other, taken[axis], axis, keepdims=False)
    shifted = lambda axis: axis - sum(gone < axis for gone in taken)
    inner = [rest.index(m) for m, _ in pairs], [shifted(i) for _, i in pairs]
    outer = [rest.index(m) for m in batch[0]], [shifted(i) for i in batch[1]]
    if not pairs and not batch[0]:
        values = _outer(*((sparse.values, other) if first else (other, sparse.values)), params)
    elif first:
        values = jax.lax.dot_general(sparse.values, other, (inner, outer), **params)
    else:
        flipped = ((inner[1], inner[0]), (outer[1], outer[0]))
        values = jax.lax.dot_general(other, sparse.values, flipped, **params)

    # The output's axes: the batch, the left operand's free ones, the right operand's.
    free = [a for a in range(len(sparse.shape)) if a not in contract[0] and a not in batch[0]]
    num_other = other.ndim - len(pairs) - len(batch[0])
    start = len(batch[0]) + (0 if first else num_other)
    index = {start + k: where[axis] for k, axis in enumerate(free) if axis in where}
    if not index:
        return values
    ndim = values.ndim + len(index)
    sizes = {start + k: sparse.shape[axis] for k, axis in enumerate(free)}
    kept = iter(values.shape)
    shape = tuple(sizes[a] if a in index else next(kept) for a in range(ndim))
    return OneHot(values, tuple(sorted(index)), tuple(index[a] for a in sorted(index)), shape)


def _outer(left, right, params):
    dtype = params.get("preferred_element_type") or jnp.result_type(left, right)
    left = jnp.expand_dims(left.astype(dtype), tuple(range(left.ndim, left.ndim + right.ndim)))
    right = jnp.expand_dims(right.astype(dtype), tuple(range(left.ndim - right.ndim)))
    return left * right


def _rebuilt(values, order, tangent):
    """A one-hot tangent whose axis k was the axis `order[k]` of another."""
    where = dict(zip(tangent.axes, tangent.index, strict=True))
    axes = tuple(k for k, axis in enumerate(order) if axis in where)
    if not axes:
        return values
    index = tuple(where[order[k]] for k in axes)
    return OneHot(values, axes, index, tuple(tangent.shape[axis] for axis in order))


def _unravel(flat, shape):
    index = []
    for k in range(len(shape)):
        index.append(flat // math.prod(shape[k + 1 :]) % shape[k])
    return tuple(index)
