"""The figures of theorem 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.paper.linear.gaussian_reference import expectation
from experiments.paper.linear.runs import Trained
from hgeo.optimizers import label
from hgeo.report.figures import COLORS, MARKERS, STYLE

LOOK = {
    "sgdm": {"color": COLORS[0], "marker": MARKERS[0]},
    "adam": {"color": COLORS[1], "marker": MARKERS[1]},
}
Found = Mapping[tuple[str, int], Trained]


def r_med_against_width(rows: Sequence[Mapping[str, Any]], fits: Mapping[str, float]) -> Figure:
    """SGD+M against c·log d and the Gaussian's expectation; Adam's distance from 1."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    of = lambda name, key, layer="W1": np.array(
        [r[key] for r in rows if r["optimizer"] == name and r["layer"] == layer]
    )
    d = of("sgdm", "d")
    left.fill_between(
        d, of("sgdm", "r_med_10"), of("sgdm", "r_med_90"), color=COLORS[0], alpha=0.15, linewidth=0
    )
    left.plot(d, of("sgdm", "r_med"), label="SGD+M, median of seeds (10–90%)", **LOOK["sgdm"])
    left.plot(
        d, of("sgdm", "r_med_mean"), ":", color=COLORS[0], label="SGD+M, mean of seeds", **STYLE
    )
    left.plot(d, fits["c"] * np.log(d), "--", color="black", label=f"{fits['c']:.2f} log d (fit)")
    left.plot(d, [expectation(n) for n in d], "-.", color=COLORS[2], label="d Gaussians², mean")
    left.plot(d, of("sgdm", "gaussian_median"), "-", color=COLORS[2], label="d Gaussians², median")
    left.plot(d, of("adam", "r_med"), label="Adam, median of seeds", **LOOK["adam"])
    left.set(ylabel="R_med between T1 and T2, layer W1", ylim=(0, None))
    left.legend(fontsize=8)
    for layer, style in (("W1", "-"), ("W2", ":")):
        right.plot(
            d, of("adam", "max_r_med", layer) - 1, style, label=f"Adam, {layer}", **LOOK["adam"]
        )
    curve = fits["adam_amplitude"] * d ** fits["adam_power"]
    power = fits["adam_power"]
    right.plot(
        d, curve, "--", color="black", label=f"W1: {fits['adam_amplitude']:.3f} d^({power:.2f})"
    )
    right.set_yscale("log")
    right.set_ylabel("max of R_med − 1 over T1..T2 (log scale)")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    right.tick_params(axis="y", which="both", labelsize=8)
    right.legend(fontsize=8)
    for axes in (left, right):
        widths_axis(axes, d)
    return figure


def widths_axis(axes: Axes, widths: Sequence[int] | np.ndarray) -> None:
    """A logarithmic axis of d that names every width."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(widths), [str(d) for d in widths])
    axes.set_xlabel("d (log scale)")
    axes.grid(alpha=0.3)


def over_time(found: Found, width: int) -> Figure:
    """Loss, and R_med of both layers, against the step; T1 and T2 shaded."""
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, name in enumerate(LOOK):
        runs = found[name, width]
        step, ok = runs.arrays["step"], runs.ok
        loss = runs.arrays["loss"][ok] / runs.arrays["loss"][ok][:, :1]
        top, bottom = panels[:, column]
        band(top, np.arange(loss.shape[1]), loss, COLORS[column], "loss / initial loss")
        for layer in (0, 1):
            values = runs.arrays["r_med"][ok][:, :, layer]
            band(bottom, step, values, COLORS[2 * layer + column], f"R_med of W{layer + 1}")
        top.set_title(
            f"{label(name)}, d = {width}, {ok.sum()} seeds: median and 10–90%", fontsize=10
        )
        for axes in (top, bottom):
            t1, t2 = np.median(runs.first[ok]), np.median(runs.last[ok])
            axes.axvspan(t1, t2, color="black", alpha=0.06, label="T1 to T2")
            axes.set_yscale("log")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
        bottom.set_xlabel("step (updates)")
    panels[0, 0].set_ylabel("loss / initial loss (log scale)")
    panels[1, 0].set_ylabel("R_med (log scale)")
    panels[1, 0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


def rank_one(found: Found, width: int) -> Figure:
    """W_1's distance from rank one, the distribution of u, and how alike the updates are."""
    figure = Figure(figsize=(12.0, 4.0), layout="constrained")
    residual, spread, updates = figure.subplots(1, 3)
    grid = np.linspace(0, 4, 33)
    for column, name in enumerate(LOOK):
        runs = found[name, width]
        step, ok, color = runs.arrays["step"], runs.ok, COLORS[column]
        share = step / np.median(runs.first[ok])
        shown = share <= 1.5
        values = lambda key, runs=runs, ok=ok, shown=shown: runs.arrays[key][ok][:, shown]
        band(residual, share[shown], values("rank_one_residual"), color, label(name))
        u = np.abs(runs.arrays["u"][ok])
        u = (u / np.sqrt(np.mean(u**2, axis=1, keepdims=True))).ravel()
        spread.hist(u, grid, density=True, color=color, alpha=0.5, label=label(name))
        for key, style, what in (
            ("sign_agreement", "-", "sign agreement"),
            ("update_spread", ":", "spread of magnitudes"),
        ):
            middle = np.median(values(key), axis=0)[1:]
            updates.plot(
                share[shown][1:], middle, style, color=color, label=f"{label(name)}: {what}"
            )
    x = np.linspace(0, 4, 200)
    density = np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2)
    spread.plot(x, density, color="black", label="|Gaussian|")
    residual.set(
        ylabel="‖W₁ − u vᵀ‖ / ‖W₁‖ (log scale)", yscale="log", title="W₁ becomes of rank one"
    )
    spread.set(
        xlabel="|u_i| / root mean square, after training",
        ylabel="density (log scale)",
        yscale="log",
        title="u: Gaussian, or of one magnitude",
    )
    updates.set(ylabel="of the entries of W₁'s update", title="updates", ylim=(0, None))
    for axes in (residual, updates):
        axes.set_xlabel("step / T1")
    for axes in (residual, spread, updates):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(f"d = {width}", fontsize=10)
    return figure


def band(axes: Axes, x: np.ndarray, values: np.ndarray, color: str, name: str) -> None:
    """The median over seeds (rows), and the band from the 10% to the 90% quantile."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(x, middle, color=color, label=name, linewidth=STYLE["linewidth"])
