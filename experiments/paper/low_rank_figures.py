"""Figures 5, 9 and 10: nearly low rank weights, and how uniform their singular vectors are."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side
from experiments.paper.over_time import panels_over_time, table_rows, values_over_time
from experiments.paper.pairing import by_repeat, in_each_repeat
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, train
from experiments.paper.verdict_rules import HALF
from hgeo.optimizers import label
from hgeo.records.layer_numbers import is_whole
from hgeo.records.run_records import RunRecords
from hgeo.report.figures import COLORS
from hgeo.report.tables import StatisticTable, Table, format_number

SIDES = (Side("translation", "sgdm"), Side("translation", "adam"))
KEYS = ("rank", "r_u", "r_v")
# A weight is nearly of low rank whose leading tenth of singular values holds half of ‖W‖²...
LEADING = 0.1
PAPER = "the paper found 12 of about 30 layers nearly of low rank, R_u of Adam smaller in 10 of"
PAPER += " them and R_v in 6"


def leading_share(singular_values: np.ndarray) -> float:
    """The share of ‖W‖_F² in the leading tenth of the singular values."""
    squares = np.sort(singular_values)[::-1] ** 2
    leading = max(1, round(LEADING * len(squares)))
    return float(squares[:leading].sum() / squares.sum())


def _singular_values(record: RunRecords, step: int, layer: str) -> np.ndarray:
    return record.read_arrays(step)[f"{layer.replace('/', '.')}.singular_values"]


def summary(context: ReproductionContext) -> tuple[list[dict[str, Any]], str]:
    """A row for each layer at the last probed step, over the repeats; and the verdict."""
    trained = train("translation", context)
    records = {side.optimizer: trained.of(side.optimizer) for side in SIDES}
    step = max(trained.config.probe.steps)
    measured = {
        (name, key): StatisticTable(runs, key) for name, runs in records.items() for key in KEYS
    }
    rows = []
    layers = {n: path for n, path in measured["adam", "rank"].layers.items() if is_whole(n)}
    for layer, path in layers.items():
        row: dict[str, Any] = {"layer": layer, "name": path.removesuffix("/kernel"), "step": step}
        for name, runs in records.items():
            values = {key: measured[name, key].values(name, step, layer) for key in KEYS}
            values["leading_share"] = {
                repeat: leading_share(_singular_values(runs[repeat], step, path))
                for repeat in values["rank"]
            }
            for key, own in values.items():
                row[f"{name}_{key}"] = float(np.mean([*own.values()]))
                row[f"{name}_{key}_by_repeat"] = by_repeat(in_each_repeat(own, len(runs)))
        rows.append(row | {"low_rank": int(row["adam_leading_share"] >= HALF)})
    low = [row for row in rows if row["low_rank"]]
    fewer = [sum(row[f"adam_{key}"] < row[f"sgdm_{key}"] for row in low) for key in ("r_u", "r_v")]
    every = [sum(row[f"adam_{key}"] < row[f"sgdm_{key}"] for row in rows) for key in ("r_u", "r_v")]
    verdict = (
        f"{PAPER}; ours, at step {step}: {len(low)} of {len(rows)} nearly of low rank under Adam "
        f"(the leading tenth of the singular values holds half of ‖W‖²), R_u of Adam smaller in "
        f"{fewer[0]} of them and R_v in {fewer[1]}; of all {len(rows)} layers in {every[0]} and "
        f"{every[1]}"
    )
    return rows, verdict


def _extremes(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    ordered = sorted(rows, key=lambda row: row["adam_leading_share"])
    return ordered[-1], ordered[0]


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    header = ["#", "layer"]
    for name in ("sgdm", "adam"):
        header += [f"{label(name)}: leading share", "rank", "R_u", "R_v"]
    keys = ("leading_share", "rank", "r_u", "r_v")
    cells = [
        [str(row["layer"]), row["name"]]
        + [format_number(row[f"{name}_{key}"]) for name in ("sgdm", "adam") for key in keys]
        for row in rows
    ]
    note = "rank: the least that holds 90% of ‖W‖²; means over the repeats."
    return Table(title, header, cells, [note])


def figure5(context: ReproductionContext) -> Result:
    """The layer nearest to low rank under Adam: its leading values, and R_u and R_v."""
    rows, verdict = summary(context)
    layer, _ = _extremes(rows)
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    values, bars = figure.subplots(1, 2)
    _spectrum(values, layer, context)
    for k, name in enumerate(("sgdm", "adam")):
        heights = [layer[f"{name}_{key}"] for key in ("r_u", "r_v")]
        bars.bar(np.arange(2) + 0.4 * k, heights, 0.38, color=COLORS[k], label=label(name))
    bars.set_xticks(np.arange(2) + 0.2, ["R_u", "R_v"])
    bars.margins(y=0.25)  # room for the legend
    bars.set_ylabel("max / median")
    bars.legend(fontsize=8)
    return Result(
        rows, _table("Figure 5: low rank, translation", rows), {"figure5": figure}, verdict
    )


def figure9(context: ReproductionContext) -> Result:
    """Singular values of the layers nearest to, and farthest from, low rank."""
    rows, verdict = summary(context)
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    for axes, layer in zip(figure.subplots(1, 2), _extremes(rows), strict=True):
        _spectrum(axes, layer, context)
    return Result(rows, _table("Figure 9: singular values", rows), {"figure9": figure}, verdict)


def figure10(context: ReproductionContext) -> Result:
    """R_u and R_v over time, of the six layers nearest to low rank."""
    rows, verdict = summary(context)
    ordered = sorted(rows, key=lambda row: -row["adam_leading_share"])
    layers = sorted(row["layer"] for row in ordered[:6])
    low = {row["layer"]: row["low_rank"] for row in rows}
    found = [
        row | {"low_rank": low[row["layer"]]}
        for key in ("r_u", "r_v")
        for row in values_over_time(SIDES, key, context, layers)
    ]
    steps = sorted({row["step"] for row in found})
    header = ["#", "layer", "optimizer", "statistic", *(f"step {step}" for step in steps)]
    table = Table("Figure 10: R_u and R_v over time", header, table_rows(found, steps), [])
    return Result(found, table, {"figure10": panels_over_time(found, "R_u, R_v")}, verdict)


def _spectrum(axes, layer: dict[str, Any], context: ReproductionContext) -> None:
    for k, side in enumerate(SIDES):
        record = train(side.runs, context).of(side.optimizer)[0]
        path = next(
            r.layer for r in record.geometry[layer["step"]] if r.layer_number == layer["layer"]
        )
        values = np.sort(_singular_values(record, layer["step"], path))[::-1]
        axes.plot(
            np.arange(1, len(values) + 1), values, color=COLORS[k], label=label(side.optimizer)
        )
    axes.set(xlabel="index", ylabel="singular value")
    axes.set_title(f"{layer['layer']}: {layer['name']}, step {layer['step']}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
