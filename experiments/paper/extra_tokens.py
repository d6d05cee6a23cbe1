"""Beyond the paper: R_med of a language model's head, within and between ranges of frequency.

Column c of the head is read by word c alone, so that its curvature follows how often the model
expects the word. `lm` numbers its words by frequency.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side
from experiments.paper.pairing import Probed, columns, error_bars
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, train
from hgeo.optimizers import label
from hgeo.records.layer_numbers import is_whole
from hgeo.report.figures import COLORS, MARKERS, STYLE
from hgeo.report.tables import Table, format_number

SIDES = (Side("lm_tokens", "sgdm"), Side("lm_tokens", "adam"))
STATISTICS = ("r_med", "median_abs")


def run(context: ReproductionContext) -> Result:
    """R_med and the median entry of the head and of its columns by rank."""
    rows = [row for side in SIDES for row in _rows(side, context)]
    header = ["columns", "optimizer", "step", "R_med", "median |H_ii|"]
    cells = [
        [row["name"], label(row["optimizer"]), str(row["step"])]
        + [_cell(row, statistic) for statistic in STATISTICS]
        for row in rows
    ]
    note = f"Geometric means over {rows[0]['repeats']} repeat(s), with 95% intervals."
    last = [row for row in rows if row["step"] == max(row["step"] for row in rows)]
    summary = []
    for side in SIDES:
        whole, *parts = (row for row in last if row["optimizer"] == side.optimizer)
        within = [format_number(row["r_med"]) for row in parts]
        apart = parts[0]["median_abs"] / parts[-1]["median_abs"]
        summary.append(
            f"under {label(side.optimizer)} R_med of the whole head is "
            f"{format_number(whole['r_med'])}, of its columns by rank {', '.join(within)}, and the "
            f"median entry of the most frequent words is {format_number(apart)} times that of the "
            "rarest"
        )
    table = Table("The head by the words' frequency", header, cells, [note])
    return Result(rows, table, {"extra_tokens": _figure(rows)}, "; ".join(summary))


def _rows(side: Side, context: ReproductionContext) -> list[dict[str, Any]]:
    trained = train(side.runs, context)
    records = trained.of(side.optimizer)
    probed = {name: Probed(records, name) for name in STATISTICS}
    layers = probed["r_med"].layers
    rows = []
    for step in trained.config.probe.steps:
        for number, name in layers.items():
            row: dict[str, Any] = {
                "optimizer": side.optimizer,
                "step": step,
                "layer": number,
                "name": name.removesuffix("/kernel"),
            }
            for statistic in STATISTICS:
                values = np.array(list(probed[statistic].values(step, number).values()))
                row |= {"repeats": len(values), **columns(statistic, values)}
            rows.append(row)
    return rows


def _cell(row: dict[str, Any], statistic: str) -> str:
    ends = [row[f"{statistic}_{end}"] for end in ("low", "high")]
    value = format_number(row[statistic])
    return value if None in ends else f"{value} ({' to '.join(map(format_number, ends))})"


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    parts = list(dict.fromkeys(row["name"] for row in rows if not is_whole(row["layer"])))
    steps = sorted({row["step"] for row in rows})
    figure = Figure(figsize=(3.1 * len(steps), 5.6), layout="constrained")
    panels = figure.subplots(2, len(steps), sharex=True, sharey="row", squeeze=False)
    for column, step in enumerate(steps):
        for axes, statistic in zip(panels[:, column], STATISTICS, strict=True):
            for k, side in enumerate(SIDES):
                own = [r for r in rows if (r["optimizer"], r["step"]) == (side.optimizer, step)]
                look = {"color": COLORS[k], **STYLE}
                by_part = [row for row in own if not is_whole(row["layer"])]
                values = [row[statistic] for row in by_part]
                errors = error_bars(by_part, statistic)
                text = f"{label(side.optimizer)}, columns by rank"
                x = np.arange(len(parts)) + 0.08 * (k - 0.5)
                axes.errorbar(x, values, errors, marker=MARKERS[k], capsize=3, label=text, **look)
                (whole,) = (row for row in own if is_whole(row["layer"]))
                text = f"{label(side.optimizer)}, whole head"
                axes.axhline(whole[statistic], color=COLORS[k], linestyle=":", label=text)
            axes.set(yscale="log")
            axes.grid(alpha=0.3)
        panels[0, column].set_title(f"step {step}", fontsize=10)
        ranks = [name.partition("ranks ")[2].rstrip("]") for name in parts]
        panels[1, column].set_xticks(range(len(parts)), ranks, fontsize=8)
    panels[0, 0].set_ylabel("R_med (log scale)")
    panels[1, 0].set_ylabel("median |H_ii| (nats, log scale)")
    figure.supxlabel("words by rank of frequency", fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
    return figure
