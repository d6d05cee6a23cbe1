"""The gap in R_med between two optimizers beside their gap in speed, step by step."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side
from experiments.paper.over_time import plain_ticks
from experiments.paper.training import Place, train
from hgeo.experiment.same_loss import first_step_at, smoothed_losses
from hgeo.optimizers import label
from hgeo.records.run_records import RunRecords
from hgeo.report.figures import COLORS, MARKERS
from hgeo.report.tables import StatisticTable, Table, format_number


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


def gap_rows(gaps: Iterable[Gap], place: Place, statistic: str = "r_med") -> list[dict[str, Any]]:
    """A row for each setting and each step after the start at which both were probed."""
    found = []
    for gap in gaps:
        sides = (gap.first, gap.second)
        trained = [train(side.runs, place) for side in sides]
        records = [runs.of(side.optimizer) for runs, side in zip(trained, sides, strict=True)]
        measured = [StatisticTable(runs, statistic) for runs in records]
        window = max(1, trained[0].config.steps // 24)
        planned = [set(runs.config.probe.steps) for runs in trained]
        for step in sorted(planned[0] & planned[1] - {0}):
            values = [
                [m.values(side.optimizer, step, layer) for layer in measured[0].layers]
                for m, side in zip(measured, sides, strict=True)
            ]
            found.append(
                {
                    "setting": gap.setting,
                    "first": gap.first.optimizer,
                    "second": gap.second.optimizer,
                    "step": step,
                    "repeats": min(map(len, records)),
                    **uniformity_gap(values[0], values[1]),
                    "speed_ratio": speed_gap(records[0], records[1], step, window),
                    "loss_first": _mean_loss(records[0], step, window),
                    "loss_second": _mean_loss(records[1], step, window),
                }
            )
    return found


def uniformity_gap(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray]
) -> dict[str, float | int]:
    """Medians over the layers of both statistics and of their ratio; each layer's, of its repeats.

    A layer without a finite number in both is counted as `not_finite` and left out of the medians.
    """
    means = [[float(np.mean(v)) if len(v) else np.nan for v in side] for side in (first, second)]
    known = np.isfinite(means[0]) & np.isfinite(means[1])
    above, below = (np.array(side)[known] for side in means)
    ratios = above / below
    return {
        "layers": int(known.sum()),
        "not_finite": int((~known).sum()),
        "first_median": float(np.median(above)) if known.any() else np.nan,
        "second_median": float(np.median(below)) if known.any() else np.nan,
        "ratio_median": float(np.median(ratios)) if known.any() else np.nan,
        "above_1": int((ratios > 1).sum()),
    }


def speed_gap(
    first: Sequence[RunRecords], second: Sequence[RunRecords], step: int, window: int
) -> float | None:
    """How many times more steps the first needs to the loss that both have reached by a step.

    That is the higher of their two lowest smoothed losses up to the step; the geometric mean over
    the repeats. `None` where a run has no losses, and before a whole window of them, where a step
    or two would decide.
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


def gap_table(title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> Table:
    """The rows as a table."""
    header = ["#", "setting", "step", "first: loss", "median over layers", "second: loss"]
    header += ["median over layers", "median ratio", "layers above 1", "speed ratio"]
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
            f"{row['above_1']} of {row['layers']}"
            + (f" ({row['not_finite']} not finite)" if row["not_finite"] else ""),
            number(row["speed_ratio"]),
        ]
        for k, row in enumerate(rows)
    ]
    return Table(title, header, cells, list(notes))


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
        axes.plot(
            [row["speed_ratio"] for row in own],
            [row["ratio_median"] for row in own],
            linestyle="none",
            color=COLORS[k % len(COLORS)],
            marker=MARKERS[(k + k // len(COLORS)) % len(MARKERS)],
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
