"""Statistics: numbers that sum up a layer's curvature."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


@overload
def r_med(diagonal: Mapping[str, ArrayLike], eps: float = 0.0) -> "OrderedDict[str, jax.Array]": ...
@overload
def r_med(diagonal: ArrayLike, eps: float = 0.0) -> jax.Array: ...
def r_med(diagonal, eps=0.0):
    """How far from uniform a Hessian diagonal is: its largest entry over its median one.

        R_med = max_i |H_ii| / (median_i |H_ii| + eps)

    It is at least 1 for eps = 0, and 1 where all entries are equal in magnitude. A median of zero
    (dead units) gives inf, or NaN if all entries are zero; a NaN entry gives NaN: neither is
    dropped.

    Args:
      diagonal: entries of shape `(..., K)`, K ≥ 1, floating; or a mapping of such arrays by layer.
      eps: added to the median; the paper does so for random targets alone.

    Returns:
      An array of shape `(...)` and the entries' dtype, without unit; for a mapping, an
      `OrderedDict` of them in its order. The median of an even number of entries is the mean of
      the middle two.

    Raises:
      ValueError: there are no entries, or `eps` is negative.

    Example:
      >>> print(hgeo.r_med(jnp.array([1.0, -8.0, 2.0, 4.0])))
      2.6666667

    Reference:
      Jiang, Malik, Li (2022), eq. (1).
    """
    if isinstance(diagonal, Mapping):
        return OrderedDict((name, r_med(entries, eps)) for name, entries in diagonal.items())
    if eps < 0:
        raise ValueError(f"eps must not be negative, but is {eps}")
    magnitude = jnp.abs(jnp.asarray(diagonal))
    if magnitude.ndim == 0 or magnitude.shape[-1] == 0:
        raise ValueError(
            f"r_med takes entries along the last axis; an array of shape {magnitude.shape} has none"
        )
    return jnp.max(magnitude, axis=-1) / (jnp.median(magnitude, axis=-1) + eps)
