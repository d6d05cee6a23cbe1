"""The ratio of two optimizers' R_med, with an interval over repeats and coordinates."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hgeo.arguments import check_key, check_whole
from hgeo.statistics.entry_counts import checked
from hgeo.statistics.quantiles import quantile_of_ordered

# The quantile of the magnitudes in the numerator, over their median.
STATISTICS = {"max_over_median": 1.0, "q95_over_median": 0.95}

# Draws that are sorted at once, few enough for a cache.
_TOGETHER = 50


@dataclasses.dataclass(frozen=True)
class RMedRatio:
    """A ratio of two optimizers' R_med, with its interval and the sources of its variance.

    Attributes:
      ratio: scalar, the ratio of the geometric means over the repeats.
      mean_ratio: scalar, the mean of the repeats' ratios, which is biased upwards.
      low: scalar, the interval's lower end.
      high: scalar, the interval's upper end.
      share_repeats: scalar, the repeats' share of the variance of log ratio.
      share_coordinates: scalar, the share of the choice of coordinates. Both shares add to 1; they
        are NaN if the variance is zero or not finite.
      num_infinite: scalar, the number of repeats in which a side's statistic is infinite.
      num_nan: scalar, the number of repeats in which a side's statistic is NaN.
      num_draws_undefined: scalar, the number of draws in which the ratio is undefined.
      covers: what the interval covers: `"repeats and coordinates"`, or `"coordinates"` for a single
        repeat.

    Example:
      >>> hgeo.RMedRatio(2.0, 2.1, 1.2, 3.0, 0.4, 0.6, 0, 0, 0, "repeats and coordinates").ratio
      2.0
    """

    ratio: float
    mean_ratio: float
    low: float
    high: float
    share_repeats: float
    share_coordinates: float
    num_infinite: int
    num_nan: int
    num_draws_undefined: int
    covers: str


def r_med_ratio(
    first: Any,
    second: Any,
    key: jax.Array,
    *,
    statistic: str = "max_over_median",
    eps: float = 0.0,
    level: float = 0.95,
    num_draws: int = 2000,
) -> Any:
    """Computes how many times less uniform the first optimizer's diagonal is, with an interval.

        ratio = exp(mean_r log(S(first_r) / S(second_r))),   S = max/median or q95/median

    over the repeats r. The interval is a percentile interval by nested resampling. Each draw takes
    n of the n repeats and K of the K coordinates with replacement, the same coordinates for both
    sides and all repeats. The repeats' deviations are enlarged by sqrt(n/(n−1)) · t/z, with t and z
    the quantiles of Student's t distribution with n − 1 degrees of freedom and of the normal
    distribution. Without this factor few repeats give too short an interval. The interval is
    conservative: interactions of repeats with coordinates count in both resamplings.

    The bootstrap of a maximum is not consistent (Bickel and Freedman). So with `"max_over_median"`
    the interval is approximate, and holds for the K sampled coordinates. Take `"q95_over_median"`,
    whose bootstrap is consistent, if a decision depends on the interval.

    Args:
      first: entries of the first optimizer's diagonal, of shape `(repeats, K)`, floating; or a
        mapping of such arrays by layer.
      second: entries of the second optimizer's diagonal at the same coordinates, of the same shape;
        repeat r of the first is paired with repeat r of the second.
      key: a PRNG key of the draws.
      statistic: `"max_over_median"` or `"q95_over_median"`.
      eps: added to the median, as in `r_med`.
      level: the interval's level, in (0, 1).
      num_draws: the number of draws, at least 100.

    Returns:
      An `RMedRatio`, or an `OrderedDict` of them by layer. The order of the repeats does not
      matter, and swapped sides give the reciprocal. Infinite and NaN statistics are counted and
      stay in the ratio. A draw with an undefined ratio (0/0, inf/inf) counts as below and above all
      others, so it widens the interval at both ends.

    Raises:
      TypeError: the sides are not arrays of real numbers or mappings of them, or `key` is no key.
      ValueError: shapes that differ or are not `(repeats, K)`, layers that differ, a side without
        a finite entry, an unknown statistic, a `level` or `num_draws` out of range.

    Example:
      >>> both = jax.random.normal(jax.random.key(0), (2, 6, 100))
      >>> result = hgeo.r_med_ratio(jnp.exp(2 * both[0]), jnp.exp(both[1]), jax.random.key(1))
      >>> bool(1 < result.low < result.ratio < result.high)
      True

    Reference:
      Bickel, Freedman. Some Asymptotic Theory for the Bootstrap. 1981. Politis, Romano, Wolf.
      Subsampling. 1999. Owen. The Pigeonhole Bootstrap. 2007.
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic must be one of {list(STATISTICS)}, not {statistic!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    check_whole("num_draws", num_draws)
    if num_draws < 100:
        raise ValueError(f"num_draws must be at least 100, not {num_draws}")
    if eps < 0:
        raise ValueError(f"eps must not be negative, but is {eps}")
    check_key(key)
    options = {"statistic": statistic, "eps": eps, "level": level, "num_draws": num_draws}
    if isinstance(first, Mapping) or isinstance(second, Mapping):
        names = [list(side) if isinstance(side, Mapping) else None for side in (first, second)]
        if names[0] is None or names[1] is None or set(names[0]) != set(names[1]):
            raise ValueError(f"both sides must map the same layers, not {names[0]} and {names[1]}")
        return OrderedDict(
            (name, r_med_ratio(first[name], second[name], key, **options)) for name in names[0]
        )
    for side in (first, second):
        checked("r_med_ratio", side)
    sides = [np.asarray(side, np.float64) for side in (first, second)]
    shapes = [side.shape for side in sides]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise ValueError(f"both sides must have one shape (repeats, K), not {shapes}")
    with np.errstate(divide="ignore", invalid="ignore"):
        return _ratio(np.abs(np.stack(sides)), key, **options)


def _ratio(magnitudes, key, statistic, eps, level, num_draws) -> RMedRatio:
    upper = STATISTICS[statistic]
    values = _over_median(magnitudes, upper, eps)
    logs = np.log(values[0]) - np.log(values[1])
    num, size = magnitudes.shape[1:]
    # Sorted, so that the result depends neither on the repeats' order nor on that of the sides.
    order = np.argsort(np.abs(logs))
    magnitudes, values, logs = magnitudes[:, order], values[:, order], logs[order]
    of_repeats, of_coordinates = jax.random.split(key)
    repeats = np.asarray(jax.random.randint(of_repeats, (num_draws, num), 0, num))
    chosen = np.asarray(jax.random.randint(of_coordinates, (num_draws, size), 0, size))
    drawn = np.concatenate(
        [
            _log_ratios(np.moveaxis(magnitudes[:, :, part], 2, 0), upper, eps)
            for part in np.split(chosen, range(_TOGETHER, num_draws, _TOGETHER))
        ]
    )
    means = np.mean(drawn, axis=1)
    draws = means
    if num > 1:
        apart = np.mean(np.take_along_axis(drawn, repeats, axis=1), axis=1) - means
        draws = means + _enlargement(num, level) * apart
    undefined = np.isnan(draws)
    last = num_draws - 1
    cut = math.floor((1 - level) / 2 * last)
    low = np.sort(np.where(undefined, -np.inf, draws))[cut]
    high = np.sort(np.where(undefined, np.inf, draws))[last - cut]
    by_repeats = np.var(logs, ddof=1) / num if num > 1 else 0.0
    by_coordinates = np.var(means)
    total = by_repeats + by_coordinates
    return RMedRatio(
        ratio=float(np.exp(np.mean(logs))),
        mean_ratio=float(np.mean(values[0] / values[1])),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        share_repeats=float(np.divide(by_repeats, total)),
        share_coordinates=float(np.divide(by_coordinates, total)),
        num_infinite=int(np.isinf(values).any(axis=0).sum()),
        num_nan=int(np.isnan(values).any(axis=0).sum()),
        num_draws_undefined=int(undefined.sum()),
        covers="repeats and coordinates" if num > 1 else "coordinates",
    )


def _log_ratios(magnitudes, upper: float, eps: float) -> np.ndarray:
    """log(S(first) / S(second)) of magnitudes of shape `(draws, 2, repeats, K)`."""
    logs = np.log(_over_median(magnitudes, upper, eps))
    return logs[:, 0] - logs[:, 1]


def _over_median(magnitudes: np.ndarray, upper: float, eps: float) -> np.ndarray:
    ordered = np.sort(magnitudes, axis=-1)  # NaN last
    found = quantile_of_ordered(ordered, upper) / (quantile_of_ordered(ordered, 0.5) + eps)
    return np.where(np.isnan(ordered[..., -1]), np.nan, found)


def _enlargement(num: int, level: float) -> float:
    """The factor by which resampled deviations are too small (Hesterberg 2015, section 4.3)."""
    from scipy.special import ndtri, stdtrit  # installed with JAX; not needed by `import hgeo`

    upper = (1 + level) / 2
    return math.sqrt(num / (num - 1)) * float(stdtrit(num - 1, upper) / ndtri(upper))
