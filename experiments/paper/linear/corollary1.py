"""Corollary 1: R_med of SGD+M and Adam at equal loss."""

from typing import Any

import numpy as np
from etils import epath
from matplotlib.figure import Figure
from rich.console import Console

from experiments.paper.linear.runs import OPTIMIZERS, Trained, load_config, main_runs, trained
from experiments.paper.result import Result
from hgeo.report.figures import COLORS
from hgeo.report.tables import Table, format_number


def run(scale: str, folder: epath.Path, console: Console) -> Result:
    """Trains the missing runs (those of theorem 1) and summarises them."""
    config = load_config(scale)
    runs = main_runs(config)
    found = dict(zip(runs, trained(config, list(runs.values()), folder, console), strict=True))
    levels = np.geomspace(config.first_ratio, config.last_ratio, config.num_loss_levels)
    rows = [row for width in config.dims for row in _rows(found, width, levels)]
    least = min(row["least_ratio"] for row in rows)
    above = sum(row["least_ratio"] > 1 for row in rows)
    judged = "holds" if above == len(rows) else "NOT MET"
    verdict = (
        f"{judged}: at equal loss SGD+M's R_med is above Adam's in every seed at {above} of "
        f"{len(rows)} (d, layer, level); the smallest ratio of a seed is {least:.2f}, medians are "
        f"{min(row['ratio'] for row in rows):.2f} to {max(row['ratio'] for row in rows):.2f}"
    )
    return Result(rows, _table(rows), {"corollary1": _figure(rows, config.dims)}, verdict)


def at_losses(runs: Trained, seed: int, levels: np.ndarray) -> np.ndarray:
    """R_med of a seed at the first crossing of each level of its loss over the initial one.

    Between the two records around a crossing log R_med is taken as linear in log loss. Shape
    (levels, layers).
    """
    step = runs.arrays["step"]
    loss = np.log(runs.arrays["loss"][seed, step] / runs.arrays["loss"][seed, 0])
    r_med = np.log(runs.arrays["r_med"][seed])
    values = []
    for level in np.log(levels):
        after = int((loss <= level).argmax())
        share = (level - loss[after - 1]) / (loss[after] - loss[after - 1])
        values.append(np.exp((1 - share) * r_med[after - 1] + share * r_med[after]))
    return np.array(values)


def _rows(found: dict[tuple[str, int], Trained], width: int, levels: np.ndarray) -> list[dict]:
    pair = [found[name, width] for name in OPTIMIZERS]
    seeds = np.flatnonzero(pair[0].ok & pair[1].ok).tolist()
    # (optimizer, seed, level, layer)
    r_med = np.array([[at_losses(runs, seed, levels) for seed in seeds] for runs in pair])
    ratio = r_med[0] / r_med[1]
    return [
        {
            "d": width,
            "layer": f"W{layer + 1}",
            "loss_ratio": float(level),
            "seeds": len(seeds),
            "sgdm_r_med": float(np.median(r_med[0, :, k, layer])),
            "adam_r_med": float(np.median(r_med[1, :, k, layer])),
            "ratio": float(np.median(ratio[:, k, layer])),
            "least_ratio": float(np.min(ratio[:, k, layer])),
        }
        for layer in range(2)
        for k, level in enumerate(levels)
    ]


def _table(rows: list[dict[str, Any]]) -> Table:
    levels = sorted({row["loss_ratio"] for row in rows}, reverse=True)
    shown = [levels[0], levels[len(levels) // 2], levels[-1]]
    header = ["d", "layer", "seeds"]
    for level in shown:
        header += [f"loss {level:.2g} L(0): SGD+M", "Adam", "ratio"]
    cells = []
    for width, layer in dict.fromkeys((row["d"], row["layer"]) for row in rows):
        own = {r["loss_ratio"]: r for r in rows if (r["d"], r["layer"]) == (width, layer)}
        cells.append([str(width), layer, str(own[shown[0]]["seeds"])])
        for level in shown:
            row = own[level]
            cells[-1] += [format_number(row["sgdm_r_med"]), f"{row['adam_r_med']:.4f}"]
            cells[-1] += [format_number(row["ratio"])]
    return Table("Corollary 1: R_med at equal loss, medians over seeds", header, cells, [])


def _figure(rows: list[dict[str, Any]], widths: tuple[int, ...]) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    for axes, layer in zip(figure.subplots(1, 2, sharey=True), ("W1", "W2"), strict=True):
        for k, width in enumerate(widths):
            own = [row for row in rows if row["d"] == width and row["layer"] == layer]
            loss = [row["loss_ratio"] for row in own]
            color = COLORS[k % len(COLORS)]
            axes.plot(loss, [row["sgdm_r_med"] for row in own], "o-", markersize=3, color=color)
            axes.plot(loss, [row["adam_r_med"] for row in own], "s:", markersize=3, color=color)
            axes.plot([], [], color=color, label=f"d = {width}")
        axes.plot([], [], "o-", color="gray", label="SGD+M")
        axes.plot([], [], "s:", color="gray", label="Adam")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="loss / initial loss (log scale; training runs left to right)",
        )
        axes.invert_xaxis()
        axes.set_title(f"layer {layer}", fontsize=10)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("R_med, median over seeds (log scale)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return figure
