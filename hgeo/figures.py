"""Figures of an experiment: loss curves, and R_med of each layer over time."""

import io
import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure

from hgeo.optimizers import label
from hgeo.records import RunRecords
from hgeo.tables import Measured

# Okabe and Ito's colours, told apart by colour-blind readers too; markers repeat the distinction.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {"linewidth": 1.6, "markersize": 5}


def loss_curves(records: Sequence[RunRecords], optimizers: Sequence[str]) -> Figure:
    """Training loss against step, smoothed, every repeat a line; a cross marks divergence."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for run in records:
        rows = run.loss_rows()
        if not rows:
            continue
        name = rows[0].optimizer
        color = COLORS[optimizers.index(name) % len(COLORS)]
        losses = np.array([row.loss for row in rows])
        finite = losses[np.isfinite(losses)]
        shown = _label(name, records) if rows[0].repeat == 0 else None
        axes.plot(np.arange(len(finite)), finite, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(*_smooth(finite), color=color, label=shown, linewidth=STYLE["linewidth"])
        if run.diverged_at is not None and len(finite):
            axes.plot(len(finite) - 1, finite[-1], "x", color=color, markersize=9)
    axes.set(xlabel="step (updates)", ylabel="training loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def r_med_by_layer(records: Sequence[RunRecords], optimizers: Sequence[str]) -> Figure:
    """R_med against step, one panel a layer, mean and standard deviation over repeats."""
    measured = Measured(records)
    columns = min(4, max(1, len(measured.layers)))
    rows = math.ceil(max(1, len(measured.layers)) / columns)
    figure = Figure(figsize=(2.8 * columns, 2.3 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    steps = measured.steps
    not_finite = 0
    for axes, (number, layer) in zip(panels, measured.layers.items(), strict=False):
        for k, name in enumerate(optimizers):
            values = [measured.values(name, step, number) for step in steps]
            shown = [(s, v) for s, v in zip(steps, values, strict=True) if len(v)]
            look = {"color": COLORS[k % len(COLORS)], "marker": MARKERS[k % len(MARKERS)]}
            finite = [(s, v.mean(), v.std()) for s, v in shown if np.isfinite(v).all()]
            if finite:
                x, mean, std = map(np.array, zip(*finite, strict=True))
                bars = std if std.any() else None
                axes.errorbar(x, mean, bars, label=_label(name, records), **look, **STYLE)
            at_top = [s for s, v in shown if not np.isfinite(v).all()]
            if at_top:
                axes.plot(
                    at_top,
                    np.ones(len(at_top)),
                    transform=axes.get_xaxis_transform(),
                    clip_on=False,
                    linestyle="none",
                    fillstyle="none",
                    **look,
                )
            not_finite += len(at_top)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _leading(value) else "")
        axes.tick_params(which="both", labelsize=8)
        axes.grid(alpha=0.3, which="both")
        axes.set_title(f"{number}: {layer.removesuffix('/kernel')}", fontsize=9)
    for k, axes in enumerate(panels):
        axes.set_visible(k < len(measured.layers))
        axes.tick_params(labelbottom=k + columns >= len(measured.layers))
    note = f"; hollow at the top edge: not finite ({not_finite})" if not_finite else ""
    figure.supxlabel(f"step (updates){note}", fontsize=10)
    figure.supylabel("R_med = max |H_ii| / median |H_ii|  (log scale)", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels) or 1)
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


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _label(name: str, records: Iterable[RunRecords]) -> str:
    diverged = any(
        run.diverged_at is not None and run.losses[run.diverged_at].optimizer == name
        for run in records
    )
    return f"{label(name)} (diverged)" if diverged else label(name)


def _smooth(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over a window of a fiftieth of the curve, at the windows' centres."""
    window = max(1, len(values) // 50)
    means = np.convolve(values, np.ones(window) / window, mode="valid")
    return np.arange(len(means)) + (window - 1) / 2, means


def _leading(value: float) -> bool:
    """Whether a minor tick's leading digit is worth a label."""
    return f"{value:e}"[0] in "25"
