"""Theorem 2: R_diag of the whole Hessian, before and after training."""

from typing import Any

import numpy as np
from etils import epath
from matplotlib.figure import Figure
from rich.console import Console

from experiments.paper.linear.runs import OPTIMIZERS, Run, Trained, load_config, setup, trained
from experiments.paper.linear.theorem1_figures import LOOK, band, widths_axis
from experiments.paper.result import Result
from hgeo.config import Config
from hgeo.optimizers import label
from hgeo.report.figures import COLORS, STYLE
from hgeo.report.tables import Table, format_number


def run(scale: str, folder: epath.Path, console: Console) -> Result:
    """Trains the missing runs and summarises them."""
    config = load_config(scale)
    runs = {
        (optimizer, width): _run(config, optimizer, width)
        for width in config.r_diag.dims
        for optimizer in OPTIMIZERS
    }
    found = dict(zip(runs, trained(config, list(runs.values()), folder, console), strict=True))
    rows = [_row(*key, found[key]) for key in runs]
    falls = sum(row["after"] < min(row["before"], row["constant_matrix"]) for row in rows)
    errors = [row["dense_error"] for row in rows if row["dense_error"] != ""]
    judged = "holds" if falls == len(rows) else "NOT MET"
    verdict = (
        f"{judged}: R_diag falls, and ends below that of a constant matrix, sqrt(d²+d−1), at "
        f"{falls} of {len(rows)} (optimizer, d), in the median over seeds; closed form and dense "
        f"Hessian differ by {max(errors, default=float('nan')):.1e} at most, relatively"
    )
    figures = {
        "theorem2": _against_width(rows),
        "theorem2_over_time": _over_time(found, config.r_diag.dims[-1]),
    }
    return Result(rows, _table(rows), figures, verdict)


def _run(config: Config, optimizer: str, width: int) -> Run:
    measure = "dense_r_diag" if width <= config.r_diag.dense_up_to else "r_diag"
    usual = setup(config, optimizer, width, measure)
    every = -(-usual.steps // config.r_diag.records)
    chosen = setup(config, optimizer, width, measure, record_every=every)
    return Run(f"{optimizer}_d{width}_r_diag", chosen, config.r_diag.num_seeds)


def _row(optimizer: str, width: int, runs: Trained) -> dict[str, Any]:
    mean, middle = runs.arrays["r_diag_mean"][runs.ok], runs.arrays["r_diag_median"][runs.ok]
    error = ""
    if "dense_r_diag_mean" in runs.arrays:
        dense = runs.arrays["dense_r_diag_mean"][runs.ok]
        error = float(np.max(np.abs(dense / mean - 1)))
    low, high = np.quantile(mean[:, -1], (0.1, 0.9))
    return {
        "optimizer": optimizer,
        "d": width,
        "seeds": len(runs.status),
        "seeds_ok": int(runs.ok.sum()),
        "before": float(np.median(mean[:, 0])),
        "after": float(np.median(mean[:, -1])),
        "after_10": float(low),
        "after_90": float(high),
        "median_row_before": float(np.median(middle[:, 0])),
        "median_row_after": float(np.median(middle[:, -1])),
        "constant_matrix": float(np.sqrt(width**2 + width - 1)),
        "seeds_below": int(np.sum(mean[:, -1] < np.sqrt(width**2 + width - 1))),
        "dense_error": error,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    keys = ("before", "after", "after_10", "after_90", "constant_matrix", "median_row_after")
    header = ["d", "optimizer", "seeds", "R_diag before", "after", "10%", "90%", "sqrt(d²+d−1)"]
    header += ["after, median row", "seeds below sqrt(d²+d−1)"]
    cells = [
        [str(r["d"]), label(r["optimizer"]), str(r["seeds_ok"])]
        + [format_number(r[k]) for k in keys]
        + [str(r["seeds_below"])]
        for r in rows
    ]
    title = "Theorem 2: R_diag of the whole Hessian (d²+d rows), medians over seeds"
    return Table(title, header, cells, [])


def _against_width(rows: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in OPTIMIZERS:
        own = [row for row in rows if row["optimizer"] == name]
        d = np.array([row["d"] for row in own])
        low, high = ([row[key] for row in own] for key in ("after_10", "after_90"))
        right.fill_between(d, low, high, color=LOOK[name]["color"], alpha=0.15, linewidth=0)
        style = "-" if name == "sgdm" else "--"  # both start from the same weights
        for axes, key, what in (
            (left, "before", "before"),
            (right, "after", "after, mean of rows"),
        ):
            shown = [row[key] for row in own]
            axes.plot(d, shown, style, label=f"{label(name)}, {what}", **LOOK[name], **STYLE)
        middle = [row["median_row_after"] for row in own]
        right.plot(d, middle, ":", color=LOOK[name]["color"], label=f"{label(name)}, median row")
    constant = [row["constant_matrix"] for row in own]
    for axes in (left, right):
        axes.plot(d, constant, color="black", label="constant matrix, sqrt(d²+d−1)")
        axes.set(yscale="log", ylabel="R_diag, median over seeds (log scale)")
        widths_axis(axes, d)
        axes.legend(fontsize=8)
    return figure


def _over_time(found: dict[tuple[str, int], Trained], width: int) -> Figure:
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), OPTIMIZERS, strict=True):
        runs = found[name, width]
        ok, step = runs.ok, runs.arrays["step"]
        band(axes, step, runs.arrays["r_diag_mean"][ok], COLORS[0], "mean of rows")
        band(axes, step, runs.arrays["r_diag_median"][ok], COLORS[1], "median row")
        t1, t2 = np.median(runs.first[ok]), np.median(runs.last[ok])
        axes.axvspan(t1, t2, color="black", alpha=0.06, label="T1 to T2")
        constant = np.sqrt(width**2 + width - 1)
        axes.axhline(constant, color="black", label="constant matrix, sqrt(d²+d−1)")
        axes.set(yscale="log", xlabel="step (updates)")
        title = f"{label(name)}, d = {width}, {ok.sum()} seeds: median and 10–90%"
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("R_diag of the whole Hessian (log scale)")
    return figure
