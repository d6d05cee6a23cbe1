"""Alignment: whether gradients are large where the curvature is large."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hgeo.statistics.entry_counts import checked


class Alignment(NamedTuple):
    """Magnitudes at K coordinates, sorted by |H_ii|.

    Attributes:
      curvature: |H_ii|, of shape `(K,)`, ascending.
      gradient: |g_i| in the same order.
      adaptive_gradient: |u_i| in the same order.
      rho_gradient: scalar, Spearman's ρ of |g_i| with |H_ii|.
      rho_adaptive: scalar, Spearman's ρ of |u_i| with |H_ii|.

    Example:
      >>> hgeo.Alignment(*[jnp.ones(3)] * 3, *jnp.ones(2)).curvature.shape
      (3,)
    """

    curvature: jax.Array
    gradient: jax.Array
    adaptive_gradient: jax.Array
    rho_gradient: jax.Array
    rho_adaptive: jax.Array


def alignment(diagonal: ArrayLike, gradient: ArrayLike, adaptive_gradient: ArrayLike) -> Alignment:
    """Computes how gradient and adaptive gradient align with the Hessian diagonal.

    The adaptive gradient is u in the update −learning_rate · u: for an Optax optimizer,
    `optimizer.update(g, state, params)[0]` over −learning_rate. Spearman's ρ is the correlation of
    the ranks; ties have their mean rank.

    Args:
      diagonal: H_ii at K coordinates, of shape `(K,)`, K ≥ 2.
      gradient: g_i at the same coordinates.
      adaptive_gradient: u_i at the same coordinates, in any scale.

    Returns:
      An `Alignment` in the arrays' dtype and units, ρ in at least float32. A ρ is NaN if one of its
      two arrays is constant in magnitude or has a NaN.

    Raises:
      ValueError: shapes that differ, fewer than 2 entries, or an array without a finite entry.

    Example:
      >>> result = hgeo.alignment(jnp.array([1.0, -3.0, 2.0]), jnp.arange(3.0), jnp.ones(3))
      >>> print(result.rho_gradient, result.rho_adaptive)
      0.5 nan

    Reference:
      Jiang, Malik, Li (2022), section 5.
    """
    arrays = [
        jnp.abs(checked("alignment", array)) for array in (diagonal, gradient, adaptive_gradient)
    ]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0][0] < 2:
        raise ValueError(
            f"alignment takes three arrays of one shape (K,) with K of at least 2, not {shapes}"
        )
    order = jnp.argsort(arrays[0])
    curvature, first, second = (array[order] for array in arrays)
    return Alignment(
        curvature, first, second, _spearman(curvature, first), _spearman(curvature, second)
    )


def _spearman(first: jax.Array, second: jax.Array) -> jax.Array:
    ranks = [_ranks(array) for array in (first, second)]
    # By a power of two, which is exact, since the sums below overflow for millions of ranks.
    scale = 0.5 ** int(np.ceil(np.log2(first.size)))
    # Ties keep the mean rank; a computed one rounds, and gives a constant array a ρ.
    centred = [scale * (rank - first.size / 2) for rank in ranks]
    lengths = jnp.sqrt(jnp.sum(centred[0] ** 2) * jnp.sum(centred[1] ** 2))
    known = ~jnp.any(jnp.isnan(first) | jnp.isnan(second))
    return jnp.where(known, jnp.sum(centred[0] * centred[1]) / lengths, jnp.nan)


def _ranks(array: jax.Array) -> jax.Array:
    ordered = jnp.sort(array)
    first, last = (jnp.searchsorted(ordered, array, side=side) for side in ("left", "right"))
    # Sums of squared ranks are too large for half precision.
    dtype = jnp.float64 if array.dtype == jnp.float64 else jnp.float32
    return (first + last).astype(dtype) / 2
