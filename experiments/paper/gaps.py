"""The gap in R_med between two optimizers beside their gap in speed, step by step."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side
from experiments.paper.over_time import plain_ticks
from experiments.paper.pairing import Probed, by_repeat, error_bars, geometric_mean
from experiments.paper.ratio_table import interval
from experiments.paper.training import ReproductionContext, train
from hgeo.experiment.same_loss import first_step_at, smoothed_losses
from hgeo.optimizers import label
from hgeo.records.layer_numbers import is_whole
from hgeo.records.run_records import RunRecords
from hgeo.report.figures import COLORS, MARKERS
from hgeo.report.tables import Table, format_number


@dataclasses.dataclass(frozen=True)
class Gap:
    """Two optimizers in one setting.

    Attributes:
      setting: its name.
      first: the optimizer above the fraction line.
      second: that below it.
    """

    setting: str
    first: Side
    second: Side


def gap_rows(
    gaps: Iterable[Gap], context: ReproductionContext, statistic: str = "r_med"
) -> list[dict[str, Any]]:
    """A row for each setting and each step after the start at which both were probed."""
    found = []
    for gap in gaps:
        sides = (gap.first, gap.second)
        trained = [train(side.runs, context) for side in sides]
        records = [runs.of(side.optimizer) for runs, side in zip(trained, sides, strict=True)]
        records = [own[: min(map(len, records))] for own in records]
        probed = [
            Probed(own, statistic, runs.config.probe.options.eps)
            for own, runs in zip(records, trained, strict=True)
        ]
        window = max(1, trained[0].config.steps // 24)
        planned = [set(runs.config.probe.steps) for runs in trained]
        for step in sorted(planned[0] & planned[1] - {0}):
            layers = [number for number in probed[0].layers if is_whole(number)]
            values = [[own.values(step, layer) for layer in layers] for own in probed]
            found.append(
                {
                    "setting": gap.setting,
                    "first": gap.first.optimizer,
                    "second": gap.second.optimizer,
                    "step": step,
                    **uniformity_gap(values[0], values[1]),
                    "speed_ratio": speed_gap(records[0], records[1], step, window),
                    "loss_first": _mean_loss(records[0], step, window),
                    "loss_second": _mean_loss(records[1], step, window),
                }
            )
    return found


def uniformity_gap(
    first: Sequence[Mapping[int, float]], second: Sequence[Mapping[int, float]]
) -> dict[str, Any]:
    """Medians over the layers of both statistics and of their ratio.

    The ratio is the geometric mean over the repeats of each repeat's median over layers, with
    Student's interval. The statistics are geometric means over the repeats, then medians. Infinite
    layers take part in the medians. A layer whose ratio is undefined (NaN, or infinite in both)
    is counted as `undefined`; it may lie on either side, so that it takes no part.

    Args:
      first: by layer, the first optimizer's statistic by repeat.
      second: the second's; only repeats that both have in all layers count.
    """
    shared = [set(values) for values in (*first, *second)]
    repeats = sorted(set.intersection(*shared)) if shared else []
    sides = [
        np.array([[values[repeat] for repeat in repeats] for values in side])
        for side in (first, second)
    ]
    if not repeats:
        nothing = dict.fromkeys(("first_median", "second_median", "ratio_median"), np.nan)
        nothing |= {"ratio_median_low": None, "ratio_median_high": None}
        counts = {"repeats": 0, "layers": 0, "not_finite": 0, "undefined": len(first), "above_1": 0}
        return counts | nothing | {"ratio_by_repeat": ""}
    with np.errstate(divide="ignore", invalid="ignore"):
        above, below = np.log(sides[0]), np.log(sides[1])
        apart = above - below
        logs = [np.mean(values, axis=1) for values in (above, below, apart)]
        known = ~np.isnan(logs[2])
        medians = [float(np.exp(_median(values[known]))) for values in logs[:2]]
        each = [np.exp(_median(column[~np.isnan(column)])) for column in apart.T]
        ratio, low, high = geometric_mean(np.array(each))
    return {
        "repeats": len(repeats),
        "layers": int(known.sum()),
        "not_finite": int((~np.isfinite(logs[2])).sum()),
        "undefined": int((~known).sum()),
        "first_median": medians[0],
        "second_median": medians[1],
        "ratio_median": ratio,
        "ratio_median_low": low,
        "ratio_median_high": high,
        "above_1": int((logs[2] > 0).sum()),
        "ratio_by_repeat": by_repeat(each),
    }


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.nan


def speed_gap(
    first: Sequence[RunRecords], second: Sequence[RunRecords], step: int, window: int
) -> float | None:
    """The first's steps over the second's, to the loss that both have reached by a step.

    That loss is the higher of their two lowest smoothed losses up to the step. The ratio is the
    geometric mean over the repeats. `None` if a run has no losses, and before a whole window of
    losses, where few steps would decide.
    """
    if step < window:
        return None
    logs = []
    for pair in zip(first, second, strict=False):
        curves = [smoothed_losses(run, window) for run in pair]
        lowest = [losses[steps <= step] for steps, losses in curves]
        if not all(len(losses) for losses in lowest):
            continue
        level = max(float(losses.min()) for losses in lowest)
        at = [first_step_at(run, level, window)[0] for run in pair]
        if None not in at:
            logs.append(np.log((int(at[0] or 0) + 1) / (int(at[1] or 0) + 1)))
    return float(np.exp(np.mean(logs))) if logs else None


def _mean_loss(records: Sequence[RunRecords], step: int, window: int) -> float | None:
    found = []
    for run in records:
        steps, losses = smoothed_losses(run, window)
        if len(steps):
            found.append(losses[np.searchsorted(steps, step).clip(max=len(steps) - 1)])
    return float(np.mean(found)) if found else None


def gap_table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """The rows as a table."""
    header = ["#", "setting", "step", "first: loss", "median over layers", "second: loss"]
    header += ["median over layers", "median ratio", "95%", "layers above 1", "speed ratio"]
    cells = [
        [
            str(k + 1),
            f"{row['setting']}: {label(row['first'])} / {label(row['second'])}",
            str(row["step"]),
            number(row["loss_first"]),
            number(row["first_median"]),
            number(row["loss_second"]),
            number(row["second_median"]),
            number(row["ratio_median"]),
            interval(row["ratio_median_low"], row["ratio_median_high"]),
            f"{row['above_1']} of {row['layers']}"
            + (f" ({row['not_finite']} not finite)" if row["not_finite"] else "")
            + (f", {row['undefined']} undefined" if row["undefined"] else ""),
            number(row["speed_ratio"]),
        ]
        for k, row in enumerate(rows)
    ]
    note = "Ratio: geometric mean over the repeats of each repeat's median over layers."
    return Table(title, header, cells, [note])


def number(value: float | None) -> str:
    """Three digits, or a dash for none."""
    return "–" if value is None else format_number(value)


def scatter(rows: Sequence[dict[str, Any]], groups: Sequence[str]) -> Figure:
    """The ratio of R_med against the ratio of speeds; `groups` gives each row's colour and name."""
    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for k, group in enumerate(dict.fromkeys(groups)):
        own = [row for row, name in zip(rows, groups, strict=True) if name == group]
        own = [row for row in own if row["speed_ratio"] and np.isfinite(row["ratio_median"])]
        axes.errorbar(
            [row["speed_ratio"] for row in own],
            [row["ratio_median"] for row in own],
            error_bars(own, "ratio_median"),
            linestyle="none",
            color=COLORS[k % len(COLORS)],
            marker=MARKERS[(k + k // len(COLORS)) % len(MARKERS)],
            elinewidth=0.8,
            capsize=2,
            label=group,
        )
    axes.axhline(1, color="black", linewidth=0.8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps of the first / steps of the second, to one loss (log scale)",
        ylabel="R_med of the first / of the second,\nmedian over layers (log scale)",
    )
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure
