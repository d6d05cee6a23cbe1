"""Uniformity: how far a Hessian diagonal is from one number, and how sure a sample of it is."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from hgeo.arguments import check_key
from hgeo.statistics.entry_counts import checked


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

    A sample's R_med is lower than the layer's, whose largest entry it mostly misses: with 100 of
    16,384 entries it was 0.67 times as large in the median of 22 cases
    (`python -m experiments.reproduce extra_full`). Compare samples of one size alone, or use
    `q95_over_median`.

    Args:
      diagonal: entries of shape `(..., K)`, K ≥ 1, floating; or a mapping of such arrays by layer.
      eps: added to the median; the paper does so for random targets alone.

    Returns:
      An array of shape `(...)` and the entries' dtype, without unit; for a mapping, an
      `OrderedDict` of them in its order. The median of an even number of entries is the mean of
      the middle two.

    Raises:
      ValueError: there are no entries, not one of them is finite, or `eps` is negative.

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
    magnitude = jnp.abs(checked("r_med", diagonal))
    return jnp.max(magnitude, axis=-1) / (jnp.median(magnitude, axis=-1) + eps)


def q95_over_median(diagonal: Any, eps: float = 0.0) -> Any:
    """How far from uniform a Hessian diagonal is: its 95% quantile over its median.

        q95_over_median = Q_0.95(|H_ii|) / (median_i |H_ii| + eps)

    Unlike the maximum of `r_med`, both quantiles of a sample tend to those of the layer, so that
    the ratio depends little on the number of sampled coordinates, and its bootstrap is consistent.

    Args:
      diagonal: entries of shape `(..., K)`, K ≥ 1, floating; or a mapping of such arrays by layer.
      eps: added to the median.

    Returns:
      As `r_med`. A quantile between two entries is interpolated linearly.

    Raises:
      ValueError: as `r_med`.

    Example:
      >>> print(hgeo.q95_over_median(jnp.arange(101.0)))
      1.9

    Reference:
      van der Vaart. Asymptotic Statistics. 1998. Sections 21.2 and 23.2.
    """
    if isinstance(diagonal, Mapping):
        return OrderedDict((n, q95_over_median(entries, eps)) for n, entries in diagonal.items())
    if eps < 0:
        raise ValueError(f"eps must not be negative, but is {eps}")
    magnitude = jnp.abs(checked("q95_over_median", diagonal))
    if not jnp.issubdtype(magnitude.dtype, jnp.floating):
        magnitude = magnitude.astype(jnp.float32)
    high = jnp.quantile(magnitude, 0.95, axis=-1)
    return high / (jnp.median(magnitude, axis=-1) + eps)


class Spread(NamedTuple):
    """R_med over random subsets of the entries.

    Attributes:
      median: scalar, of the draws.
      low: scalar, their 5% quantile.
      high: scalar, their 95% quantile.
      draws: of shape `(num_draws,)`.

    Example:
      >>> hgeo.Spread(*jnp.array([2.0, 1.0, 3.0]), jnp.ones(4)).draws.shape
      (4,)
    """

    median: jax.Array
    low: jax.Array
    high: jax.Array
    draws: jax.Array


def r_med_spread(
    diagonal: Any, key: jax.Array, *, num: int | None = None, num_draws: int = 500, eps: float = 0.0
) -> Any:
    """How much R_med depends on which entries were drawn: its values over subsets of them.

    Each draw takes `num` of the K entries without replacement. The same key gives the same
    subsets, so that the draws of two optimizers at the same coordinates are paired. A subset
    misses the largest entry with probability 1 − num/K, so that the spread is that of R_med at
    `num` coordinates, not at K.

    Args:
      diagonal: entries of shape `(K,)`, floating; or a mapping of such arrays by layer.
      key: of the subsets.
      num: entries of a subset, 1 to K; `None`, half of them.
      num_draws: subsets, at least 2.
      eps: as in `r_med`.

    Returns:
      A `Spread`; for a mapping, an `OrderedDict` of them in its order.

    Raises:
      ValueError: `num` or `num_draws` outside its range; as `r_med`.

    Example:
      >>> spread = hgeo.r_med_spread(jnp.arange(1.0, 101.0), jax.random.key(0), num=50)
      >>> bool(spread.low <= spread.median <= spread.high)
      True

    Reference:
      Politis, Romano, Wolf. Subsampling. 1999.
    """
    if isinstance(diagonal, Mapping):
        options = {"num": num, "num_draws": num_draws, "eps": eps}
        return OrderedDict(
            (name, r_med_spread(entries, key, **options)) for name, entries in diagonal.items()
        )
    entries = checked("r_med_spread", diagonal)
    if entries.ndim != 1:
        raise ValueError(f"r_med_spread takes entries of shape (K,), not {entries.shape}")
    check_key(key)
    size = entries.shape[0]
    num = max(1, size // 2) if num is None else num
    if not 1 <= num <= size:
        raise ValueError(f"num must lie in 1 to the {size} entries, not {num}")
    if num_draws < 2:
        raise ValueError(f"num_draws must be at least 2, not {num_draws}")

    def draw(key):
        return r_med(entries[jax.random.permutation(key, size)[:num]], eps)

    draws = jax.lax.map(draw, jax.random.split(key, num_draws))
    low, median, high = jnp.quantile(draws, jnp.array([0.05, 0.5, 0.95], draws.dtype))
    return Spread(median, low, high, draws)
