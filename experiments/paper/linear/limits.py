"""Where theorem 1's assumptions fail: large learning rates, large initial weights, more layers."""

import dataclasses
from typing import Any

import numpy as np
from etils import epath
from matplotlib.figure import Figure
from rich.console import Console

from experiments.paper.linear.runs import (
    OPTIMIZERS,
    Run,
    Trained,
    load_config,
    rule,
    setup,
    trained,
)
from experiments.paper.linear.theorem1_figures import LOOK
from experiments.paper.result import Result
from hgeo.config import Config
from hgeo.optimizers import label
from hgeo.report.figures import STYLE
from hgeo.report.tables import Table, format_number

STOPS = 1.5  # Adam's R_med from here on is no longer near 1
RATE = "learning rate"


@dataclasses.dataclass(frozen=True)
class Case:
    """One point of the sweep: which panel it belongs to, and its place there."""

    panel: str
    value: float
    optimizer: str


def run(scale: str, folder: epath.Path, console: Console) -> Result:
    """Trains the missing runs and summarises them."""
    config = load_config(scale)
    runs = _runs(config)
    found = dict(zip(runs, trained(config, list(runs.values()), folder, console), strict=True))
    rows = [_row(case, found[case]) for case in runs]
    return Result(rows, _table(rows), {"linear_limits": _figure(rows)}, _verdict(rows))


def _runs(config: Config) -> dict[Case, Run]:
    limits, runs = config.limits, {}
    width = limits.dim
    for optimizer in OPTIMIZERS:
        base = setup(config, optimizer, width, "r_med", steps=limits.steps, record_every=10)
        for factor in limits.learning_rate_factors:
            changed = dataclasses.replace(base, rule=rule(config, optimizer, width, factor))
            runs[Case(RATE, factor, optimizer)] = Run(
                f"limits_{optimizer}_rate_{factor:g}", changed, limits.num_seeds
            )
        for depth in limits.depths:
            for std in limits.initial_stds:
                changed = dataclasses.replace(base, depth=depth, initial_std=std / width**0.5)
                runs[Case(f"depth {depth}", std, optimizer)] = Run(
                    f"limits_{optimizer}_depth_{depth}_std_{std:g}", changed, limits.num_seeds
                )
    return runs


def _row(case: Case, runs: Trained) -> dict[str, Any]:
    middle = [float("nan")] * 2
    if runs.ok.any():
        values = runs.over_period("r_med", np.median)
        middle = [float(np.median(values[:, layer])) for layer in (0, -1)]
    counts = {
        status: int(np.sum(runs.status == status)) for status in ("ok", "diverged", "unfinished")
    }
    return {
        "panel": case.panel,
        "value": float(case.value),
        "optimizer": case.optimizer,
        "first_layer_r_med": middle[0],
        "last_layer_r_med": middle[1],
        **counts,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    header = ["#", "varied", "factor, or std·√d", "optimizer", "R_med first layer", "last layer"]
    header += ["ok", "diverged", "unfinished"]
    cells = [
        [str(k), r["panel"], f"{r['value']:g}", label(r["optimizer"])]
        + [format_number(r[key]) for key in ("first_layer_r_med", "last_layer_r_med")]
        + [str(r[key]) for key in ("ok", "diverged", "unfinished")]
        for k, r in enumerate(rows, start=1)
    ]
    title = "Where the phenomenon stops: R_med between T1 and T2, median over seeds that are ok"
    return Table(title, header, cells, [])


def _verdict(rows: list[dict[str, Any]]) -> str:
    parts = []
    for panel in dict.fromkeys(row["panel"] for row in rows):
        own = [row for row in rows if row["panel"] == panel and row["optimizer"] == "adam"]
        stops = [r for r in own if not max(r["first_layer_r_med"], r["last_layer_r_med"]) < STOPS]
        what = "factor" if panel == RATE else "std·√d"
        where = f"from {what} {stops[0]['value']:g} on" if stops else "nowhere in the sweep"
        parts.append(f"{panel}: {where}")
    return f"Adam's R_med is {STOPS:g} or more, or no seed trains: " + "; ".join(parts)


def _figure(rows: list[dict[str, Any]]) -> Figure:
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    figure = Figure(figsize=(3.2 * len(panels), 3.8), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(every, panels, strict=True):
        for name in OPTIMIZERS:
            own = [row for row in rows if row["panel"] == panel and row["optimizer"] == name]
            x = [row["value"] for row in own]
            for key, style in (("first_layer_r_med", "-"), ("last_layer_r_med", ":")):
                what = f"{label(name)}, {key.split('_')[0]} layer"
                axes.plot(x, [row[key] for row in own], style, label=what, **LOOK[name], **STYLE)
            lost = [row["value"] for row in own if not row["ok"]]
            bottom = 0.03 if name == "sgdm" else 0.09
            axes.plot(
                lost,
                [bottom] * len(lost),
                "x",
                color=LOOK[name]["color"],
                transform=axes.get_xaxis_transform(),
            )
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel("factor of the usual rate" if panel == RATE else "initial std × √d")
        axes.set_title(panel, fontsize=10)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(alpha=0.3)
    every[0].set_ylabel("R_med between T1 and T2 (log scale)")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
    figure.supxlabel("crosses: no seed trains (diverged or unfinished)", fontsize=8)
    return figure
