"""Figures of an experiment: loss curves, and R_med of each layer over time."""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from hgeo.optimizers import label
from hgeo.records.rows import GeometryRow
from hgeo.records.run_records import RunRecords
from hgeo.report.tables import ByRepeat, StatisticTable
from hgeo.report.text_table import shorten

# Okabe and Ito's colours are safe for colour-blind readers; markers repeat the distinction.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {"linewidth": 1.6, "markersize": 5}


def loss_curves(records: Sequence[RunRecords], optimizers: Sequence[str]) -> Figure:
    """Smoothed training loss against step, a line a repeat; a cross marks divergence."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    _draw_losses(axes, records, optimizers)
    axes.set(xlabel="step (updates)", ylabel="training loss (nats)")
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def r_med_by_layer(records: Sequence[RunRecords], optimizers: Sequence[str]) -> Figure:
    """R_med against step, one panel a layer, mean and range over the repeats."""
    measured = StatisticTable(records)
    columns = min(4, max(1, len(measured.layers)))
    rows = math.ceil(max(1, len(measured.layers)) / columns)
    figure = Figure(figsize=(2.8 * columns, 2.3 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    steps = measured.steps
    not_finite = 0
    for axes, (number, layer) in zip(panels, measured.layers.items(), strict=False):
        for k, name in enumerate(optimizers):
            look = {"color": COLORS[k % len(COLORS)], "marker": MARKERS[k % len(MARKERS)]}
            at = lambda s, n=name, m=number: measured.values(n, s, m)
            not_finite += _draw_over_steps(
                axes, steps, at, label=_label(name, records), **look, **STYLE
            )
        axes.tick_params(which="both", labelsize=8)
        axes.grid(alpha=0.3, which="both")
        axes.set_title(shorten(f"{number}: {layer.removesuffix('/kernel')}", 38), fontsize=9)
    for axes in panels:
        _label_logarithms(axes)
    panels[0].locator_params(axis="x", integer=True, min_n_ticks=1)
    for k, axes in enumerate(panels):
        axes.set_visible(k < len(measured.layers))
        axes.tick_params(labelbottom=k + columns >= len(measured.layers))
    figure.supxlabel(_steps_label(records, not_finite), fontsize=10)
    definition = " = max |H_ii| / median |H_ii| " if rows > 1 else ""
    figure.supylabel(f"R_med{definition} (log scale)", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels) or 1)
    return figure


def loss_and_r_med(
    records: Sequence[RunRecords], optimizers: Sequence[str], layer_number: int | None = None
) -> Figure:
    """Loss above; below it R_med of a layer and its median over the layers, on one axis of steps.

    Args:
      records: of all runs.
      optimizers: in the order of the colours.
      layer_number: the layer; by default that of the largest finite R_med at any step.

    Raises:
      ValueError: no R_med of that layer was recorded.
    """
    measured = StatisticTable(records)
    if layer_number is not None and layer_number not in measured.layers:
        known = ", ".join(map(str, measured.layers))
        raise ValueError(f"layer_number is {layer_number}; R_med was recorded of layers {known}")
    number = _least_uniform(measured, optimizers) if layer_number is None else layer_number
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_losses(above, records, optimizers)
    not_finite = 0
    for k, name in enumerate(optimizers):
        look = {"color": COLORS[k % len(COLORS)], "marker": MARKERS[k % len(MARKERS)], **STYLE}
        medians = lambda s, n=name: measured.medians(n, s)
        not_finite += _draw_over_steps(below, measured.steps, medians, **look)
        if number is not None:
            look |= {"linestyle": "--", "fillstyle": "none", "linewidth": 1.1}
            at = lambda s, n=name: measured.values(n, s, number)
            not_finite += _draw_over_steps(below, measured.steps, at, **look)
    _label_logarithms(below)
    above.set(ylabel="training loss (nats)")
    below.set(xlabel=_steps_label(records, not_finite), ylabel="R_med (log scale)")
    for axes in (above, below):
        axes.grid(alpha=0.3, which="both")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)) or 1)
    below.locator_params(axis="x", integer=True, min_n_ticks=1)
    keys = [("-", "full", "median over the layers (NaN left out)")]
    if number is not None:
        name = shorten(measured.layers[number].removesuffix("/kernel"), 44)
        keys.append(("--", "none", f"layer {number}: {name}"))
    for line, fill, text in keys:
        below.plot([], [], line, marker="o", fillstyle=fill, color="#555555", label=text)
    below.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
    return figure


def r_med_of_layers(rows: Sequence[GeometryRow], title: str) -> Figure:
    """R_med of each layer of one iterate; a cross at the right edge where it is not finite."""
    shown = [row for row in rows if row.statistic == "r_med"]
    names = [f"{row.layer_number}: {row.layer}" for row in shown]
    longest = max(map(len, names), default=0)
    size = (4.6 + 0.085 * min(longest, 60), 1.5 + 0.26 * max(len(names), 2))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    finite = [(k, row.value) for k, row in enumerate(shown) if np.isfinite(row.value)]
    other = [k for k, row in enumerate(shown) if not np.isfinite(row.value)]
    if finite:
        places, values = map(list, zip(*finite, strict=True))
        axes.hlines(places, 1.0, values, color=COLORS[5], linewidth=STYLE["linewidth"])
        axes.plot(values, places, "o", color=COLORS[1], markersize=6)
    if other:
        where = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        axes.plot(np.ones(len(other)), other, "x", color=COLORS[0], markersize=8, **where)
    axes.set_xscale("log")
    axes.set_xlim(0.9, max(10.0, 1.2 * max((value for _, value in finite), default=1.0)))
    _label_ticks(axes.xaxis)
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_yticks(range(len(names)), [shorten(name, 60) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(alpha=0.3, axis="x", which="both")
    note = "; cross: not finite" if other else ""
    axes.set_xlabel(f"R_med = max |H_ii| / median |H_ii|  (log scale{note})")
    axes.set_title(title, fontsize=10)
    return figure


def tuning_curve(optimizer: str, rates: Sequence[float], losses: Sequence[float]) -> Figure:
    """Final training loss against learning rate; crosses at the top mark divergence."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    pairs = sorted(zip(rates, losses, strict=True))
    finite = [(rate, loss) for rate, loss in pairs if np.isfinite(loss)]
    if finite:
        axes.plot(*zip(*finite, strict=True), "o-", color=COLORS[1], **STYLE)
        best = min(finite, key=lambda pair: pair[1])
        axes.plot(*best, "o", color=COLORS[0], markersize=9, label=f"best: {best[0]:g}")
    diverged = [rate for rate, loss in pairs if not np.isfinite(loss)]
    if diverged:
        top = np.ones(len(diverged))
        where = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(diverged, top, "x", color=COLORS[6], markersize=9, label="diverged", **where)
    axes.set_xscale("log")
    axes.set(xlabel=f"learning rate of {optimizer}", ylabel="final training loss (nats)")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


class Image(NamedTuple):
    """A figure as the content of files, and its width in inches."""

    png: bytes
    svg: bytes
    inches: float


def render(figure: Figure) -> Image:
    """The figure in both formats, with one layout."""
    raster = png(figure)
    figure.set_layout_engine("none")
    return Image(raster, svg(figure), figure.get_figwidth())


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def loss_curve(run: RunRecords) -> tuple[np.ndarray, np.ndarray]:
    """The steps with a finite loss, and these losses."""
    rows = [row for row in run.loss_rows() if np.isfinite(row.loss)]
    return np.array([row.step for row in rows], float), np.array([row.loss for row in rows])


def smooth(steps: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over a window of a fiftieth of the curve, at the windows' centres."""
    if not len(losses):
        return steps, losses
    window = max(1, len(losses) // 50)
    means = [np.convolve(x, np.ones(window) / window, mode="valid") for x in (steps, losses)]
    return means[0], means[1]


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file's content; equal figures give equal content."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "hgeo"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_losses(axes: Axes, records: Sequence[RunRecords], optimizers: Sequence[str]) -> None:
    labels = {name: _label(name, records) for name in optimizers}
    for run in records:
        rows = run.loss_rows()
        if not rows:
            continue
        name = rows[0].optimizer
        color = COLORS[optimizers.index(name) % len(COLORS)]
        steps, losses = loss_curve(run)
        axes.plot(steps, losses, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(
            *smooth(steps, losses),
            color=color,
            label=labels.pop(name, None),  # of its first run
            linewidth=STYLE["linewidth"],
            marker="o" if len(losses) == 1 else None,
        )
        if run.diverged_at is not None and len(losses):
            axes.plot(steps[-1], losses[-1], "x", color=color, markersize=9)


def _draw_over_steps(
    axes: Axes, steps: Sequence[int], at: Callable[[int], ByRepeat], **look: Any
) -> int:
    """Mean over the repeats of what `at` gives of a step, a bar from the smallest to the largest.

    A standard deviation would often reach below zero, which a log scale cannot show.

    Returns:
      The number of steps at which a repeat is not finite; the figure marks them at the top edge.
    """
    found = [(step, np.array([*values.values()])) for step in steps if (values := at(step))]
    finite = [(s, v.mean(), v.min(), v.max()) for s, v in found if np.isfinite(v).all()]
    if finite:
        x, mean, low, high = map(np.array, zip(*finite, strict=True))
        bars = np.maximum([mean - low, high - mean], 0.0)  # of equal ones a mean rounds
        axes.errorbar(x, mean, bars if (high > low).any() else None, elinewidth=1, **look)
    at_top = [s for s, v in found if not np.isfinite(v).all()]
    if at_top:
        where = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        marks = {key: look[key] for key in ("color", "marker", "markersize")}
        axes.plot(at_top, np.ones(len(at_top)), ls="none", fillstyle="none", **where, **marks)
    return len(at_top)


def _steps_label(records: Sequence[RunRecords], not_finite: int) -> str:
    repeated = any(row.repeat for run in records for row in run.geometry_rows()[:1])
    bars = "; bars: range over the repeats" if repeated else ""
    note = f"; hollow at the top edge: not finite ({not_finite})" if not_finite else ""
    return f"step (updates){bars}{note}"


def _least_uniform(measured: StatisticTable, optimizers: Sequence[str]) -> int | None:
    found = [
        (value, -number)
        for number in measured.layers
        for name in optimizers
        for step in measured.steps
        for value in measured.values(name, step, number).values()
        if np.isfinite(value)
    ]
    return -max(found)[1] if found else None


def _label_logarithms(axes: Axes) -> None:
    """A log scale that is wide enough for a label or two, at 1, 2 or 5 times a power of ten."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low > 0 and high < 5 * low:
        middle = math.sqrt(low * high)
        axes.set_ylim(middle / math.sqrt(5), middle * math.sqrt(5))
    _label_ticks(axes.yaxis)


def _label_ticks(axis: Axis) -> None:
    """Plain numbers at powers of ten, and at 2 and 5 times those."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: f"{value:g}" if _leading(value) else "")


def _label(name: str, records: Iterable[RunRecords]) -> str:
    diverged = any(
        run.diverged_at is not None and run.losses[run.diverged_at].optimizer == name
        for run in records
    )
    return f"{label(name)} (diverged)" if diverged else label(name)


def _leading(value: float) -> bool:
    """Whether a minor tick's leading digit gets a label."""
    return f"{value:e}"[0] in "25"
