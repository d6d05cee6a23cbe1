"""Beyond the paper: R_med against the learning rate, with the preconditioned sharpness.

The sharpness is the largest eigenvalue of P^(-1/2) H P^(-1/2), of all weights together. With
momentum β a step of learning rate η on a quadratic is stable while the sharpness is below

    (2 + 2β) / η             for momentum that adds the gradients up (SGD+M): 3.8/η for β = 0.9,
    (2 + 2β) / ((1 − β) η)   for momentum that averages them (Adam): 38/η for β = 0.9.

Reference: Cohen et al. Adaptive Gradient Methods at the Edge of Stability. 2022.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.over_time import plain_ticks
from experiments.paper.pairing import Probed, columns, error_bars
from experiments.paper.ratio_table import interval
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, Trained, train
from hgeo.experiment.plan import RunPlan
from hgeo.optimizers import label
from hgeo.report.figures import COLORS, MARKERS, STYLE
from hgeo.report.tables import Table, format_number

SHARPNESS = "preconditioned_largest_eigenvalue"


def run(context: ReproductionContext) -> Result:
    """R_med, sharpness and its bound at the last step, by optimizer and learning rate."""
    trained, probed = train("lm_rates", context), train("lm_sharpness", context)
    step = trained.config.probe.steps[-1]
    rows = [_row(plan, step, trained, probed) for plan in trained.config.plans]
    header = ["optimizer", "rate", "loss", "R_med", "95%", "sharpness", "95%", "bound", "of it"]
    cells = [
        [label(row["optimizer"]), f"{row['rate']:g}", format_number(row["loss"])]
        + [text for name in ("r_med", "sharpness") for text in _cells(row, name)]
        + [format_number(row["bound"]), format_number(row["sharpness"] / row["bound"])]
        for row in rows
    ]
    notes = [
        f"Step {step}. R_med: the median over layers; geometric means over {rows[0]['repeats']} "
        "repeats. Sharpness: of all weights, preconditioned, on the probe's batch; Lanczos gives a "
        "lower bound of it. Loss: of the probe's batch."
    ]
    title = "R_med and preconditioned sharpness by learning rate"
    return Result(
        rows, Table(title, header, cells, notes), {"extra_rates": _figure(rows)}, _said(rows)
    )


def _row(plan: RunPlan, step: int, trained: Trained, probed: Trained) -> dict[str, Any]:
    name = plan.name
    of_layers, of_all = Probed(trained.of(name), "r_med"), Probed(probed.of(name), SHARPNESS)
    each = np.array([list(of_layers.values(step, n).values()) for n in of_layers.layers])
    values = {
        "r_med": np.median(each, axis=0),
        "sharpness": np.array(list(of_all.values(step, *of_all.layers).values())),
    }
    row: dict[str, Any] = {
        "run": name,
        "optimizer": plan.optimizer,
        "rate": plan.rate,
        "step": step,
        "bound": bound(plan),
        "loss": float(np.mean([*of_layers.losses(step).values()])),
        "repeats": each.shape[1],
    }
    for statistic, own in values.items():
        row |= columns(statistic, own)
    return row


def bound(plan: RunPlan) -> float:
    """The sharpness above which the steps of SGD+M or Adam on a quadratic grow."""
    if plan.optimizer == "sgdm":
        return (2 + 2 * plan.arguments["momentum"]) / plan.rate
    beta = plan.arguments["b1"]
    return (2 + 2 * beta) / ((1 - beta) * plan.rate)


def _cells(row: dict[str, Any], name: str) -> list[str]:
    return [format_number(row[name]), interval(row[f"{name}_low"], row[f"{name}_high"])]


def _said(rows: Sequence[dict[str, Any]]) -> str:
    said = []
    for optimizer in dict.fromkeys(row["optimizer"] for row in rows):
        own = [row for row in rows if row["optimizer"] == optimizer]
        first, last = own[0], own[-1]
        shares = [format_number(row["sharpness"] / row["bound"]) for row in own]
        said.append(
            f"{label(optimizer)} from learning rate {first['rate']:g} to {last['rate']:g}: R_med "
            f"{format_number(first['r_med'])} to {format_number(last['r_med'])}, sharpness "
            f"{format_number(first['sharpness'])} to {format_number(last['sharpness'])}, which is "
            f"{', '.join(shares)} of its bound"
        )
    return "; ".join(said)


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for k, optimizer in enumerate(dict.fromkeys(row["optimizer"] for row in rows)):
        own = [row for row in rows if row["optimizer"] == optimizer]
        rates = [row["rate"] for row in own]
        look = {"color": COLORS[k], "marker": MARKERS[k], "capsize": 3, **STYLE}
        for axes, name in zip(panels, ("r_med", "sharpness"), strict=True):
            values = [row[name] for row in own]
            axes.errorbar(rates, values, error_bars(own, name), label=label(optimizer), **look)
        factor = own[0]["bound"] * own[0]["rate"]
        text = f"{factor:.3g}/η ({label(optimizer)})"
        bounds = [row["bound"] for row in own]
        panels[1].plot(rates, bounds, ":", color=COLORS[k], label=text)
    for axes, name in zip(
        panels, ("median R_med of the layers", "preconditioned sharpness"), strict=True
    ):
        axes.set(xscale="log", yscale="log", xlabel="learning rate η", ylabel=f"{name} (log scale)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    plain_ticks(panels[0].yaxis)
    panels[0].tick_params(axis="y", which="both", labelsize=8)
    return figure
