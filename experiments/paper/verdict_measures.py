"""Effects of the rows of a result, part by part: positive where a rule's claim holds."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.paper.comparison import moment
from experiments.paper.effects import (
    Part,
    Row,
    by_repeat,
    groups,
    median,
    number,
    of_moments,
    of_repeats,
    over_layers,
)
from experiments.paper.linear import effects as linear
from experiments.paper.ranks import bootstrap_of_rank_correlation, rank_correlation
from experiments.paper.verdict_rules import HALF
from hgeo.records.layer_numbers import is_whole

# The parts of a fused in-projection.
WITHIN = ("Q", "K", "V")

# The control of the runs under weight decay.
WITHOUT_DECAY = "weight decay 0"


def _of_paper(rows: Sequence[Row]) -> list[Row]:
    """Of each setting the rows that the paper has; all where it has none."""
    found = []
    for own in groups(rows, "setting").values():
        known = [row for row in own if not math.isnan(number(row.get("paper_first")))]
        found += known or own
    return found


def _ratio(rows: Sequence[Row], rule) -> list[Part]:
    later = [row for row in rows if not str(row["step"]) == str(row["step_of_second"]) == "0"]
    reached = [row for row in later if row["ours_ratio"] not in (None, "")]
    found = groups(_of_paper(reached), "setting", "checkpoint").values()
    return [over_layers(_name(own[0]), own) for own in found]


def _name(row: Row) -> str:
    return ", ".join(filter(None, (row["setting"], moment(row))))


def _within(rows: Sequence[Row], rule) -> list[Part]:
    later = [row for row in rows if int(row["step"]) and row["setting"] in WITHIN]
    return [over_layers(name, own) for name, own in groups(later, "setting", "step").items()]


def _switch(rows: Sequence[Row], rule) -> list[Part]:
    after = [row for row in _of_paper(rows) if row["checkpoint"] == "after switch"]
    control = {
        int(row["layer"]): row
        for row in rows
        if row["checkpoint"] == "after switch" and row["first"] == "sgd"
    }
    switched = [row for row in after if row["first"] == "adam_after_sgd"]
    key = "first_by_repeat"
    pairs = [
        _cells(control[int(row["layer"])], row, key, key)
        for row in switched
        if int(row["layer"]) in control
    ]
    return [over_layers("never switched / switched", pairs)] if pairs else []


def _gap(rows: Sequence[Row], rule) -> list[Part]:
    last = {(row["setting"], row["first"], row["second"]): row for row in rows}
    parts = []
    for (setting, first, second), row in last.items():
        name = f"{setting}: {first} / {second}"
        if row.get("ratio_by_repeat"):
            parts.append(of_repeats(name, np.log(by_repeat(row["ratio_by_repeat"]))))
        else:
            effect = math.log(number(row["ratio_median"]))
            parts.append(Part(name, effect, None, None, None, int(row["repeats"]), "none kept"))
    return parts


def _gap_under_decay(rows: Sequence[Row], rule) -> list[Part]:
    return _gap([row for row in rows if row["setting"] != WITHOUT_DECAY], rule)


def _over_time(rows: Sequence[Row], rule) -> list[Part]:
    ((first, second),) = rule.pairs
    by_place = {(r["statistic"], int(r["step"]), r["optimizer"], r["layer"]): r for r in rows}
    steps = sorted({int(row["step"]) for row in rows} - {0})
    parts = []
    for statistic, step in itertools.product(dict.fromkeys(r["statistic"] for r in rows), steps):
        places = [
            [(statistic, step, optimizer, layer) for optimizer in (first, second)]
            for layer in dict.fromkeys(row["layer"] for row in rows if is_whole(int(row["layer"])))
        ]
        both = [
            [by_place[place] for place in pair]
            for pair in places
            if all(place in by_place for place in pair)
        ]
        name = f"{statistic}, step {step}"
        if all(row.get("by_repeat") for pair in both for row in pair):
            parts.append(over_layers(name, [_cells(a, b) for a, b in both]))
            continue
        means = [number(a["mean"]) / number(b["mean"]) for a, b in both]
        variation = [
            math.hypot(*(np.nan_to_num(number(row["std"])) / number(row["mean"]) for row in pair))
            for pair in both
        ]
        stds = [mean * own for mean, own in zip(means, variation, strict=True)]
        repeats = min((int(row["repeats"]) for pair in both for row in pair), default=0)
        parts.append(of_moments(name, means, stds, repeats))
    return parts


def _low_rank(rows: Sequence[Row], rule) -> list[Part]:
    ((first, second),) = rule.pairs
    key = "r_u_by_repeat"
    cells = [_cells(row, row, f"{first}_{key}", f"{second}_{key}") for row in _of_low_rank(rows)]
    return [over_layers("r_u", cells)] if cells else []


def _low_rank_over_time(rows: Sequence[Row], rule) -> list[Part]:
    return _over_time([row for row in _of_low_rank(rows) if row["statistic"] == "r_u"], rule)


def _of_low_rank(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if number(row.get("low_rank")) == 1]


def _cells(first: Row, second: Row, *keys: str) -> Row:
    """The cells of two rows that hold all repeats, as `over_layers` takes them."""
    of_first, of_second = keys or ("by_repeat", "by_repeat")
    return {"first_by_repeat": first[of_first], "second_by_repeat": second[of_second]}


def _leading_share(rows: Sequence[Row], rule) -> list[Part]:
    shares = [by_repeat(row.get("adam_leading_share_by_repeat")) for row in rows]
    if not all(map(len, shares)):
        return []
    return [of_repeats("largest share", np.log(np.max(shares, axis=0) / HALF))]


def _alignment(rows: Sequence[Row], rule) -> list[Part]:
    ((first, second),) = rule.pairs
    sides = [
        [row for row in rows if row["optimizer"] == name and is_whole(int(row["layer"]))]
        for name in (first, second)
    ]
    if all(row.get("rho_update_by_repeat") for side in sides for row in side):
        by_layer = [[by_repeat(row["rho_update_by_repeat"]) for row in side] for side in sides]
        both = min(len(values) for side in by_layer for values in side)
        medians = [
            np.array([median(column) for column in np.transpose([v[:both] for v in side])])
            for side in by_layer
        ]
        return [of_repeats("last step", medians[0] - medians[1])]
    single = [median(np.array([number(row["rho_update"]) for row in side])) for side in sides]
    return [Part("last step", single[0] - single[1], None, None, None, 1, "none kept")]


def _fall(rows: Sequence[Row], rule) -> list[Part]:
    steps = sorted({int(row["step"]) for row in rows})
    parts = []
    for name, own in groups(rows, "statistic", "optimizer").items():
        ends = [
            {row["layer"]: row for row in own if int(row["step"]) == step}
            for step in (steps[0], steps[-1])
        ]
        both = [[end[layer] for end in ends] for layer in ends[0] if layer in ends[1]]
        if both and all(row.get("by_repeat") for pair in both for row in pair):
            parts.append(over_layers(name, [_cells(a, b) for a, b in both]))
            continue
        logs = [math.log(number(a["mean"]) / number(b["mean"])) for a, b in both]
        repeats = min(int(row["repeats"]) for row in own)
        parts.append(Part(name, median(np.array(logs)), None, None, None, repeats, "none kept"))
    return parts


def _gain(rows: Sequence[Row], rule) -> list[Part]:
    parts = []
    for key in ("largest_magnitude", "range_condition_number"):
        low, high = (
            max(number(row[key]) for row in rows if number(row["gain"]) == gain)
            for gain in (1.0, 800.0)
        )
        parts.append(Part(key, math.log(high / low), None, None, None, 1, "none kept"))
    return parts


def speed(base: np.ndarray, other: np.ndarray, steps: Sequence[np.ndarray]) -> float:
    """The log of the baseline's steps over the other's, to the higher of both lowest losses.

    Args:
      base: the baseline's losses.
      other: the other's.
      steps: of both; counted from the later of their starts.
    """
    level = max(float(np.min(base)), float(np.min(other)))
    start = max(own[0] for own in steps)
    at = [own[np.argmax(losses <= level)] for own, losses in zip(steps, (base, other), strict=True)]
    since = [max(0.0, float(step - start)) + 1 for step in at]
    return math.log(since[0] / since[1])


def _speed(rows: Sequence[Row], rule) -> list[Part]:
    parts = []
    for panel, own in groups(rows, "panel").items():
        curves = groups(own, "optimizer")
        for first, second in rule.pairs:
            if first not in curves or second not in curves:
                continue
            both = [curves[first], curves[second]]
            steps = [np.array([float(row["step"]) for row in curve]) for curve in both]
            name = f"{panel}: {second}"
            if curves[second][0].get("speed_by_repeat"):
                speeds = by_repeat(curves[second][0]["speed_by_repeat"])
                parts.append(of_repeats(name, np.log(speeds)))
                continue
            base, other = (np.array([number(row["loss"]) for row in curve]) for curve in both)
            repeats = min(int(curve[0]["repeats"]) for curve in both)
            effect = speed(base, other, steps)
            parts.append(Part(name, effect, None, None, None, repeats, "none kept"))
    return parts


def _rank(rows: Sequence[Row], rule) -> list[Part]:
    keys = ("speed_ratio", "ratio_median")
    known = [row for row in rows if not any(math.isnan(number(row[key])) for key in keys)]
    x, y = ([number(row[key]) for row in known] for key in keys)
    pairs = [(row["setting"], row["first"], row["second"]) for row in known]
    rho, _ = rank_correlation(x, y)
    draws = bootstrap_of_rank_correlation(x, y, pairs)
    if not len(draws):
        return [Part("all", rho, None, None, None, len(set(pairs)), "none kept")]
    low, high = np.quantile(draws, (0.025, 0.975))
    p = min(1.0, 2 * min(float(np.mean(draws <= 0)), float(np.mean(draws >= 0))))
    return [Part("all", rho, float(low), float(high), p, len(set(pairs)), "pairs of optimizers")]


def _sampled(rows: Sequence[Row], rule) -> list[Part]:
    logs = [
        math.log(number(row["full_r_med"]) / number(row["r_med"]))
        for row in rows
        if math.isfinite(number(row["full_r_med"]) + number(row["r_med"]))
    ]
    return [Part("all", median(np.array(logs)), None, None, None, 1, "none kept")]


def _classes(rows: Sequence[Row], rule) -> list[Part]:
    parts = []
    for targets, own in groups(rows, "targets").items():
        for which, head in (("head", True), ("other layers", False)):
            lines = groups((row for row in own if (row["name"] == "head") == head), "name").values()
            logs = [
                np.log(by_repeat(line[-1]["by_repeat"])) - np.log(by_repeat(line[0]["by_repeat"]))
                for line in (sorted(line, key=lambda row: int(row["classes"])) for line in lines)
            ]
            effects = np.array([median(column) for column in np.transpose(logs)])
            parts.append(of_repeats(f"{which}, {targets}", effects))
    return parts


def _tokens(rows: Sequence[Row], rule) -> list[Part]:
    last = max(int(row["step"]) for row in rows)
    parts = []
    for optimizer, own in groups((r for r in rows if int(r["step"]) == last), "optimizer").items():
        logs = {int(row["layer"]): np.log(by_repeat(row["r_med_by_repeat"])) for row in own}
        whole = next(values for layer, values in logs.items() if is_whole(layer))
        ranges = [values for layer, values in logs.items() if not is_whole(layer)]
        effects = np.array([median(column) for column in np.transpose(whole - np.array(ranges))])
        parts.append(of_repeats(optimizer, effects))
    return parts


def _rates(rows: Sequence[Row], rule) -> list[Part]:
    parts = []
    for optimizer, own in groups(rows, "optimizer").items():
        first, *_, last = sorted(own, key=lambda row: number(row["rate"]))
        logs = [np.log(by_repeat(row["sharpness_by_repeat"])) for row in (first, last)]
        parts.append(of_repeats(optimizer, logs[0] - logs[1]))
    return parts


MEASURES: dict[str, Callable[[Sequence[Row], Any], list[Part]]] = {
    "ratio": _ratio,
    "within": _within,
    "switch": _switch,
    "gap": _gap,
    "gap_under_decay": _gap_under_decay,
    "over_time": _over_time,
    "low_rank": _low_rank,
    "low_rank_over_time": _low_rank_over_time,
    "leading_share": _leading_share,
    "alignment": _alignment,
    "fall": _fall,
    "gain": _gain,
    "speed": _speed,
    "rank": _rank,
    "theorem1": linear.theorem1,
    "corollary1": linear.corollary1,
    "theorem2": linear.theorem2,
    "limits": linear.limits,
    "sampled": _sampled,
    "classes": _classes,
    "tokens": _tokens,
    "rates": _rates,
}
