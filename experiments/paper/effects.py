"""The effects, intervals and tests of which a verdict is made."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit
from scipy.stats import binomtest

from experiments.paper.pairing import interval_of_repeats

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """One setting at one step.

    Attributes:
      name: of the part.
      effect: positive where the claim holds.
      low: the lower end of its 95% interval; `None` for no interval.
      high: the upper end.
      p: two-sided p-value against no effect; `None` where it can't be computed.
      repeats: their number.
      covers: what the interval covers.
      undefined: pairs of a layer and a repeat whose effect is undefined, and takes no part.
    """

    name: str
    effect: float
    low: float | None
    high: float | None
    p: float | None
    repeats: int
    covers: str = "repeats"
    undefined: int = 0


def number(value: Any) -> float:
    """A cell of a CSV file or a value: NaN for an empty one."""
    return math.nan if value is None or value == "" else float(value)


def by_repeat(cell: Any) -> np.ndarray:
    """The values of a cell that holds all repeats."""
    return np.array([float(text) for text in str(cell or "").split()])


def of_repeats(name: str, effects: np.ndarray) -> Part:
    """The part of an effect in each repeat."""
    known = effects[~np.isnan(effects)]
    if not len(known):
        return Part(name, math.nan, None, None, None, 0)
    low, high = interval_of_repeats(known)
    with np.errstate(invalid="ignore"):
        effect = float(np.mean(known))
    return Part(name, effect, low, high, label_swap(known), len(known))


def label_swap(effects: np.ndarray) -> float | None:
    """p of a mean at least as large, over all exchanges of the two labels within repeats.

    If a repeat's effect is infinite, p of at least as many repeats of one sign.
    """
    if len(effects) < 2:
        return None
    if not np.isfinite(effects).all():
        return sign_test(int((effects > 0).sum()), len(effects))
    if len(effects) <= 14:
        signs = np.array(list(itertools.product((1, -1), repeat=len(effects))))
    else:
        signs = np.random.default_rng(0).choice([1, -1], size=(20_000, len(effects)))
        signs[0] = 1
    means = np.abs(signs @ effects)
    return float(np.mean(means >= np.abs(np.sum(effects)) * (1 - 1e-12)))


def sign_test(positive: int, total: int) -> float:
    """Two-sided p of a number of signs at least as uneven."""
    return float(binomtest(positive, total).pvalue)


def median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):
        return float(np.median(known)) if len(known) else math.nan


def over_layers(name: str, rows: Sequence[Row]) -> Part:
    """The median over layers of the log ratio, in each repeat where the file has repeats."""
    sides = [
        [by_repeat(row.get(key)) for row in rows] for key in ("first_by_repeat", "second_by_repeat")
    ]
    if all(len(values) for side in sides for values in side):
        num = min(len(values) for side in sides for values in side)
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (np.log([values[:num] for values in side]) for side in sides)
            logs = first - second
        part = of_repeats(name, np.array([median(column) for column in logs.T]))
        return dataclasses.replace(part, undefined=int(np.isnan(logs).sum()))
    means = [number(row["ours_ratio"]) for row in rows]
    stds = [number(row.get("ours_ratio_std")) for row in rows]
    return of_moments(name, means, stds, min((int(row["repeats"]) for row in rows), default=0))


def of_moments(name: str, means: Iterable[float], stds: Iterable[float], repeats: int) -> Part:
    """From each layer's mean and deviation over repeats, as of a lognormal variable.

    It assumes that the layers' deviations move together, which gives the longest interval.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, std = (np.array(list(values), float) for values in (means, stds))
        variance = np.log1p((np.nan_to_num(std) / mean) ** 2)
        logs = np.log(mean) - variance / 2
    effect = median(logs)
    if repeats < 2 or np.isnan(std).all():
        return Part(name, effect, None, None, None, repeats, "none kept")
    half = stdtrit(repeats - 1, 0.975) * np.sqrt(variance / repeats)
    ends = median(logs - half), median(logs + half)
    return Part(name, effect, *ends, None, repeats, "repeats, each layer's")


def groups(rows: Iterable[Row], *keys: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(", ".join(str(row[key]) for key in keys if row[key] != ""), []).append(row)
    return found
