"""A statistic of two optimizers over time, layer by layer, with 95% intervals over repeats."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side
from experiments.paper.effects import by_repeat as by_repeat_of
from experiments.paper.effects import number, of_moments, of_repeats
from experiments.paper.pairing import by_repeat, in_each_repeat
from experiments.paper.training import ReproductionContext, Trained, train
from hgeo.optimizers import label
from hgeo.report.figures import COLORS, MARKERS, STYLE
from hgeo.report.tables import StatisticTable, format_number


def values_over_time(
    sides: Sequence[Side], statistic: str, context: ReproductionContext, layers: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """A row for each side, layer and step: mean and standard deviation over the repeats."""
    found = []
    for side in sides:
        found += _rows(train(side.runs, context), side, statistic, layers)
    return found


def _rows(
    trained: Trained, side: Side, statistic: str, layers: Sequence[int]
) -> list[dict[str, Any]]:
    measured = StatisticTable(trained.of(side.optimizer), statistic)
    chosen = {n: name for n, name in measured.layers.items() if not layers or n in layers}
    rows = []
    for layer, name in (chosen or measured.layers).items():
        for step in trained.config.probe.steps:
            found = measured.values(side.optimizer, step, layer)
            values = np.array([*found.values()])
            if found:
                rows.append(
                    {
                        "statistic": statistic,
                        "optimizer": side.optimizer,
                        "layer": layer,
                        "name": name.removesuffix("/kernel"),
                        "step": step,
                        "repeats": len(values),
                        "mean": float(values.mean()),
                        "std": float(values.std(ddof=1)) if len(values) > 1 else None,
                        "by_repeat": by_repeat(in_each_repeat(found, trained.config.repeats)),
                    }
                )
    return rows


def panels_over_time(rows: Sequence[dict[str, Any]], ylabel: str, log: bool = True) -> Figure:
    """A panel for each layer, a line for each (optimizer, statistic) in its 95% interval."""
    layers = dict.fromkeys((row["layer"], row["name"]) for row in rows)
    lines = list(dict.fromkeys((row["optimizer"], row["statistic"]) for row in rows))
    names = len({statistic for _, statistic in lines})
    optimizers = list(dict.fromkeys(optimizer for optimizer, _ in lines))
    columns = min(4, len(layers))
    height = math.ceil(len(layers) / columns)
    figure = Figure(figsize=(2.7 * columns + 0.5, 2.2 * height + 0.8), layout="constrained")
    panels = figure.subplots(height, columns, sharex=True, squeeze=False).ravel()
    for axes, (layer, name) in zip(panels, layers, strict=False):
        for k, (optimizer, statistic) in enumerate(lines):
            own = [r for r in rows if (r["optimizer"], r["statistic"]) == (optimizer, statistic)]
            own = [r for r in own if r["layer"] == layer and np.isfinite(r["mean"])]
            which = optimizers.index(optimizer)
            text = label(optimizer) + (f", {statistic}" if names > 1 else "")
            steps, color = [r["step"] for r in own], COLORS[which % len(COLORS)]
            center, low, high = np.array([interval_of_mean(r) for r in own]).T.reshape(3, -1)
            axes.plot(
                steps,
                center,
                linestyle=("-", "--", ":")[(k // len(optimizers)) % 3 if names > 1 else 0],
                color=color,
                marker=MARKERS[which % len(MARKERS)],
                label=text,
                **STYLE,
            )
            axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        if log:
            axes.set_yscale("log")
            plain_ticks(axes.yaxis)
        axes.tick_params(which="both", labelsize=7)
        axes.grid(alpha=0.3)
        axes.set_title(f"{layer}: {name}", fontsize=8)
    for axes in panels[len(layers) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(layers) - columns) : len(layers)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("step (updates)", fontsize=9)
    figure.supylabel(ylabel + (" (log scale)" if log else ""), fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=max(2, columns),
        fontsize=8,
        handlelength=4,
    )
    return figure


def interval_of_mean(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """The geometric mean over repeats with the ends of its 95% interval.

    From the values by repeat; from mean and deviation, as of a lognormal variable, where a file has
    these alone. With one repeat both ends are the mean.
    """
    values = by_repeat_of(row.get("by_repeat"))
    values = values[~np.isnan(values)]
    repeats, mean, std = (number(row[key]) for key in ("repeats", "mean", "std"))
    if len(values) and (values > 0).all():
        part = of_repeats("", np.log(values))
    else:
        part = of_moments("", [mean], [std], int(repeats))
    low, high = (part.effect if end is None else end for end in (part.low, part.high))
    return math.exp(part.effect), math.exp(low), math.exp(high)


def plain_ticks(axis) -> None:
    """Plain numbers at a log axis's major ticks, and at minor ticks where these are few."""

    def minor(value: float, _) -> str:
        low, high = axis.get_view_interval()
        labelled = "25" if high < 100 * low else ""
        return f"{value:.4g}" if high < 3 * low or f"{value:e}"[0] in labelled else ""

    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(minor)


def table_rows(rows: Sequence[dict[str, Any]], steps: Sequence[int]) -> list[list[str]]:
    """Cells of a table: a line for each layer, optimizer and statistic, a column for each step."""
    values = {(r["layer"], r["optimizer"], r["statistic"], r["step"]): r["mean"] for r in rows}
    lines = dict.fromkeys((r["layer"], r["name"], r["optimizer"], r["statistic"]) for r in rows)
    return [
        [
            str(layer),
            name,
            label(optimizer),
            statistic,
            *(_cell(values.get((layer, optimizer, statistic, step))) for step in steps),
        ]
        for layer, name, optimizer, statistic in lines
    ]


def _cell(value: float | None) -> str:
    return "–" if value is None else format_number(value)
