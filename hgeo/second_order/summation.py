"""Sums of many terms, staged so that float32 keeps its digits."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.one_hot import OneHot, Tangent, dense


def widest(*dtypes: Any) -> Any:
    """The dtype that holds them all, even where the user has restricted type promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


def total(array: jax.Array) -> jax.Array:
    """The sum of all entries, last axis first, since one long sum loses digits in float32.

    Half-precision arrays are summed in float32.
    """
    array = array.astype(widest(array.dtype, jnp.float32))
    if array.ndim > 1:
        # The barrier keeps the compiler from joining the two sums into one.
        array = jax.lax.optimization_barrier(jnp.sum(array, axis=-1))
    return jnp.sum(array)


def sum_of(parts: Sequence[Any]) -> Any:
    """The sum of arrays of the same shape, in the widest of their dtypes; 0.0 for no arrays."""
    if not parts:
        return 0.0
    result = parts[0]
    for part in parts[1:]:
        dtype = widest(result.dtype, part.dtype)
        result = result.astype(dtype) + part.astype(dtype)
    return result


def quadratic(weight: jax.Array, first: Tangent, second: Tangent) -> jax.Array:
    """⟨weight, first ∘ second⟩, zero where a tangent is zero even if the weight is infinite."""
    if isinstance(first, OneHot) and first is second:
        weight, first = first.at(weight), first.values
        second = first
    first, second = dense(first), dense(second)
    dtype = widest(weight.dtype, first.dtype, second.dtype)
    product = first.astype(dtype) * second.astype(dtype)
    return total(jnp.where(product == 0, 0.0, weight.astype(dtype) * product))


def inner(first: jax.Array, second: jax.Array) -> jax.Array:
    """⟨first, second⟩, zero where the second is zero even if the first is infinite."""
    return total(jnp.real(jnp.where(second == 0, 0.0, first * second)))
