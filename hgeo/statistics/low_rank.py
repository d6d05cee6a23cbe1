"""Low rank: how many singular directions a weight matrix has, and how uniform they are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from hgeo.statistics.entry_counts import checked
from hgeo.statistics.r_med import max_over_median


class LowRank(NamedTuple):
    """Rank and leading singular directions of a weight matrix.

    Attributes:
      rank: scalar int32, k, the smallest rank that holds the share of ‖W‖_F².
      singular_values: of shape `(min(out, in),)`, descending.
      r_u: scalar, R_u, of the left (output) singular vectors.
      r_v: scalar, R_v, of the right (input) singular vectors.

    Example:
      >>> hgeo.LowRank(jnp.int32(1), jnp.ones(2), *jnp.ones(2)).singular_values.shape
      (2,)
    """

    rank: jax.Array
    singular_values: jax.Array
    r_u: jax.Array
    r_v: jax.Array


def low_rank(weight: ArrayLike, share: float = 0.9) -> LowRank:
    """Computes the approximate rank of a weight matrix and the uniformity of its directions.

        k = min {r : Σ_{i≤r} σ_i² ≥ share · ‖W‖_F²},   ũ_j = Σ_{i≤k} σ_i² u_ij²,
        R_u = max_j ũ_j / median_j ũ_j,   and R_v likewise from the right singular vectors.

    Args:
      weight: W of shape `(out, in)`, floating; pass the transpose of a Flax kernel.
      share: the share of ‖W‖_F² that k singular values hold, in (0, 1].

    Returns:
      A `LowRank`, in the weight's dtype (float32 for half precision). A NaN in it
      makes all but the rank NaN.

    Raises:
      ValueError: not a matrix, an empty matrix, no finite entry, a share outside (0, 1].
      TypeError: a matrix that is not floating.

    Example:
      >>> result = hgeo.low_rank(jnp.outer(jnp.array([1.0, 1.0, 2.0]), jnp.ones(4)))
      >>> print(result.rank, result.r_u.round(3), result.r_v.round(3))
      1 4.0 1.0

    Reference:
      Jiang, Malik, Li (2022), section 6.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    matrix = checked("low_rank", weight)
    if matrix.ndim != 2:
        raise ValueError(f"low_rank takes a matrix (out, in), not an array of shape {matrix.shape}")
    if not jnp.issubdtype(matrix.dtype, jnp.floating):
        raise TypeError(f"low_rank takes a floating matrix, not {matrix.dtype}")
    if jnp.finfo(matrix.dtype).bits < 32:
        matrix = matrix.astype(jnp.float32)
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    squares = values**2
    held = jnp.cumsum(squares) / jnp.sum(squares)
    # Rounding can leave the last sum just below 1.
    rank = jnp.minimum(jnp.sum(held < share) + 1, len(values)).astype(jnp.int32)
    kept = jnp.where(jnp.arange(len(values)) < rank, squares, 0.0)
    uniformity = [max_over_median(shares) for shares in (left**2 @ kept, kept @ right**2)]
    return LowRank(rank, values, *uniformity)
