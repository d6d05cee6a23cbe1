"""R_med of two optimizers in the repeats that both have: their ratio, and how sure it is."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.special import stdtrit

import hgeo
from hgeo.errors import InputError
from hgeo.records.run_records import RunRecords
from hgeo.report.tables import At

KEY = 24
DRAWS = 1000

# What is recomputed from the sampled entries where a run has kept them.
FROM_ENTRIES = {"r_med": hgeo.r_med, "q95_over_median": hgeo.q95_over_median}


class Probed:
    """One optimizer's values of a statistic by repeat, and the entries that they are made of.

    R_med is made of the entries without eps where they were kept; else it is what was recorded,
    with the eps of the probe.

    Attributes:
      layers: their names by number.
    """

    def __init__(self, records: Sequence[RunRecords], statistic: str, eps: float = 0.0):
        """Sorts the rows of the records."""
        self._statistic, self._eps = statistic, eps
        self._runs: dict[int, RunRecords] = {}
        self._values: dict[tuple[int, int, int], float] = {}
        self._losses: dict[tuple[int, int], float] = {}
        self._kept: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self.layers: dict[int, str] = {}
        for run in records:
            for row in run.geometry_rows():
                if row.statistic == statistic:
                    self._runs[row.repeat] = run
                    self.layers[row.layer_number] = row.layer
                    self._values[row.repeat, row.step, row.layer_number] = row.value
                    self._losses[row.repeat, row.step] = row.loss

    def losses(self, at: At) -> dict[int, float]:
        """The probe batch's loss in every repeat that has it."""
        places = self._places(at).items()
        return {place[0]: self._losses[place] for place in places if place in self._losses}

    def values(self, at: At, layer: int) -> dict[int, float]:
        """The statistic by repeat."""
        found = {}
        for repeat, step in self._places(at).items():
            if (repeat, step, layer) in self._values:
                entries = self.entries(repeat, step, layer)
                recorded = self._values[repeat, step, layer]
                known = entries is not None and self._statistic in FROM_ENTRIES
                found[repeat] = _of_entries(self._statistic, entries) if known else recorded
        return found

    def eps(self, at: At, layer: int) -> float:
        """The eps in the values of a layer."""
        places = self._places(at).items()
        kept = all(self.entries(*place, layer) is not None for place in places)
        return 0.0 if kept and self._statistic in FROM_ENTRIES else self._eps

    def entries(self, repeat: int, step: int, layer: int) -> np.ndarray | None:
        """The sampled diagonal; `None` where the run has not kept it."""
        return self._arrays(repeat, step).get(f"{self.layers[layer].replace('/', '.')}.diagonal")

    def _arrays(self, repeat: int, step: int) -> dict[str, np.ndarray]:
        if (repeat, step) not in self._kept:
            run = self._runs[repeat]
            try:
                self._kept[repeat, step] = run.read_arrays(step)
            except FileNotFoundError:
                self._kept[repeat, step] = {}
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                path = run.folder / "arrays" / f"{step}.npz"
                raise InputError(f"{path} can't be read: {error}") from error
        return self._kept[repeat, step]

    def _places(self, at: At) -> dict[int, int]:
        return dict.fromkeys(sorted(self._runs), at) if isinstance(at, int) else dict(at)


def paired(probed: Sequence[Probed], at: Sequence[At], layer: int, resample: bool) -> dict:
    """What a row says of both optimizers: all numbers are of the repeats that both have.

    Args:
      probed: the first's and the second's.
      at: their steps.
      layer: its number.
      resample: whether the interval is wanted; at a common start there is none.
    """
    values = [own.values(when, layer) for own, when in zip(probed, at, strict=True)]
    repeats = [repeat for repeat in values[0] if repeat in values[1]]
    first, second = (np.array([own[repeat] for repeat in repeats], float) for own in values)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = first / second
        geometric = float(np.exp(np.mean(np.log(ratios)))) if repeats else None
    eps = max((own.eps(when, layer) for own, when in zip(probed, at, strict=True)), default=0.0)
    found: dict[str, Any] = {
        "repeats": len(repeats),
        "eps": eps,
        "ours_first": _mean(first),
        "ours_first_std": _std(first),
        "ours_second": _mean(second),
        "ours_second_std": _std(second),
        "ours_ratio": geometric,
        "ours_mean_ratio": _mean(ratios),
        "ours_ratio_std": _std(ratios),
        "repeats_above_1": int((ratios > 1).sum()),
        "first_by_repeat": by_repeat(first),
        "second_by_repeat": by_repeat(second),
    }
    return found | _intervals(probed, at, layer, repeats, np.array(ratios), resample)


def _intervals(probed, at, layer, repeats, ratios, resample) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        ("ours_ratio_low", "ours_ratio_high", "interval_covers", *_Q95)
    )
    if not repeats or not resample:
        return empty
    steps = [dict.fromkeys(repeats, when) if isinstance(when, int) else when for when in at]
    sides = [
        [own.entries(repeat, step[repeat], layer) for repeat in repeats]
        for own, step in zip(probed, steps, strict=True)
    ]
    known = [entries for side in sides for entries in side if entries is not None]
    whole = len(known) == 2 * len(repeats) and len({entries.shape for entries in known}) == 1
    if not whole or not all(np.isfinite(np.stack(side)).any() for side in sides):
        low, high = interval_of_repeats(np.log(ratios))
        covers = "repeats" if low is not None else None
        return empty | {
            "ours_ratio_low": None if low is None else math.exp(low),
            "ours_ratio_high": None if high is None else math.exp(high),
            "interval_covers": covers,
        }
    first, second = (np.stack(side) for side in sides)
    found, quantile = (
        hgeo.r_med_ratio(first, second, jax.random.key(KEY), statistic=name, num_draws=DRAWS)
        for name in ("max_over_median", "q95_over_median")
    )
    values = (quantile.ratio, quantile.low, quantile.high, quantile.share_repeats)
    return {
        "ours_ratio_low": found.low,
        "ours_ratio_high": found.high,
        "interval_covers": found.covers,
        **dict(zip(_Q95, values, strict=True)),
    }


_Q95 = ("q95_ratio", "q95_ratio_low", "q95_ratio_high", "q95_share_repeats")


def interval_of_repeats(logs: np.ndarray, level: float = 0.95) -> tuple[float | None, float | None]:
    """Student's interval of the mean over repeats; none for one repeat or a value not finite."""
    if len(logs) < 2 or not np.isfinite(logs).all():
        return None, None
    half = stdtrit(len(logs) - 1, (1 + level) / 2) * np.std(logs, ddof=1) / math.sqrt(len(logs))
    return float(np.mean(logs) - half), float(np.mean(logs) + half)


def geometric_mean(values: np.ndarray) -> tuple[float, float | None, float | None]:
    """The geometric mean over repeats and the ends of its 95% interval, `None` for no interval."""
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    low, high = (None if end is None else math.exp(end) for end in interval_of_repeats(logs))
    return math.exp(np.mean(logs)), low, high


def columns(name: str, values: np.ndarray) -> dict[str, Any]:
    """A statistic's cells in a row: its geometric mean, the interval's ends, and each repeat."""
    mean, low, high = geometric_mean(values)
    ends = {f"{name}_low": low, f"{name}_high": high}
    return {name: mean, **ends, f"{name}_by_repeat": by_repeat(values)}


def error_bars(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray | None:
    """Distances (2, rows) of the intervals' ends from the means; `None` if a row has none."""
    ends = [[row[f"{name}_{end}"] for row in rows] for end in ("low", "high")]
    if any(end is None for side in ends for end in side):
        return None
    return np.abs(np.array(ends) - [row[name] for row in rows])


def by_repeat(values: Sequence[float] | np.ndarray) -> str:
    """The values of all repeats in one cell."""
    return " ".join(f"{value:.6g}" for value in values)


def in_each_repeat(values: Mapping[int, float], repeats: int) -> list[float]:
    """The values in the order of the repeats, NaN where a repeat has none."""
    return [values.get(repeat, math.nan) for repeat in range(repeats)]


def _of_entries(statistic: str, entries: Any) -> float:
    known = np.isfinite(entries).any()
    return float(FROM_ENTRIES[statistic](entries)) if known else math.nan


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _std(values: np.ndarray) -> float | None:
    with np.errstate(invalid="ignore"):
        return float(np.std(values, ddof=1)) if len(values) > 1 else None
