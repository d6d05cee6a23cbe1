"""R_med: how far from uniform a Hessian diagonal is, and how far a sample's value varies."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from hgeo.arguments import check_key
from hgeo.statistics.entry_counts import checked
from hgeo.statistics.quantiles import quantile


@overload
def r_med(diagonal: Mapping[str, ArrayLike], eps: float = 0.0) -> "OrderedDict[str, jax.Array]": ...
@overload
def r_med(diagonal: ArrayLike, eps: float = 0.0) -> jax.Array: ...
def r_med(diagonal, eps=0.0):
    """Computes R_med, the largest entry of a Hessian diagonal over its median entry.

        R_med = max_i |H_ii| / (median_i |H_ii| + eps)

    With eps = 0 it is at least 1, and 1 if all entries have the same magnitude. A median of zero
    (dead units) gives inf, or NaN if all entries are zero. A NaN entry gives NaN. No entry is
    dropped.

    A sample's R_med is smaller than the layer's, since a sample mostly misses the largest entry:
    with 100 of 16,384 entries it is 0.67 times as large in the median of 22 cases
    (`python -m experiments.reproduce extra_full`). Compare R_med only at the same coordinates, or
    use `q95_over_median`.

    Args:
      diagonal: entries of shape `(..., K)`, K ≥ 1, floating; or a mapping of such arrays by layer.
      eps: added to the median; the paper adds it for random targets only.

    Returns:
      An array of shape `(...)` in the entries' dtype, without unit; for a mapping, an `OrderedDict`
      of such arrays in its order. The median of an even number of entries is the mean of the middle
      two.

    Raises:
      ValueError: there are no entries, no entry is finite, or `eps` is negative.

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
    return max_over_median(checked("r_med", diagonal), eps)


def max_over_median(entries: jax.Array, eps: float = 0.0) -> jax.Array:
    """`r_med` of entries that are already checked; not one of them needs to be finite."""
    magnitude = jnp.abs(entries)
    return jnp.max(magnitude, axis=-1) / (quantile(magnitude, 0.5) + eps)


def q95_over_median(diagonal: Any, eps: float = 0.0) -> Any:
    """Computes the 95% quantile of a Hessian diagonal over its median.

        q95_over_median = Q_0.95(|H_ii|) / (median_i |H_ii| + eps)

    Both quantiles of a sample converge to those of the layer, unlike the maximum in `r_med`. So the
    ratio depends little on the number of sampled coordinates, and its bootstrap is consistent.

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
    return quantile(magnitude, 0.95) / (quantile(magnitude, 0.5) + eps)


class Spread(NamedTuple):
    """R_med over random subsets of the entries.

    Attributes:
      median: scalar, the median over the draws.
      low: scalar, the 5% quantile over the draws.
      high: scalar, the 95% quantile over the draws.
      draws: R_med of each draw, of shape `(num_draws,)`.

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
    """Computes R_med over random subsets of the entries, to show how it depends on the sample.

    Each draw takes `num` of the K entries without replacement. The same key gives the same subsets,
    so the draws of two optimizers at the same coordinates are paired. A subset misses the largest
    entry with probability 1 − num/K, so the spread is that of R_med at `num` coordinates, not at K.

    Args:
      diagonal: entries of shape `(K,)`, floating; or a mapping of such arrays by layer.
      key: random key of the subsets.
      num: the number of entries of a subset, 1 to K; `None`: K // 2, at least 1.
      num_draws: the number of subsets, at least 2.
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
        raise ValueError(f"num must lie in 1 to {size}, the number of entries, not {num}")
    if num_draws < 2:
        raise ValueError(f"num_draws must be at least 2, not {num_draws}")

    def draw(key):
        return r_med(entries[jax.random.permutation(key, size)[:num]], eps)

    draws = jax.lax.map(draw, jax.random.split(key, num_draws))
    low, median, high = (quantile(draws, level) for level in (0.05, 0.5, 0.95))
    return Spread(median, low, high, draws)
