"""Beyond the paper: R_med of a whole layer against that of sampled coordinates."""

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, train
from hgeo.optimizers import label
from hgeo.report.figures import COLORS, MARKERS
from hgeo.report.tables import Table, format_number

KEYS = ("r_med", "r_med_low", "r_med_high", "full_r_med")


def run(context: ReproductionContext) -> Result:
    """Both numbers for each optimizer, layer and step, and how they order the two optimizers."""
    trained = train("lm_full", context)
    rows = []
    for optimizer in ("sgd", "adagrad"):
        record = trained.of(optimizer)[0]
        for step, found in sorted(record.geometry.items()):
            for number, layer in {r.layer_number: r.layer for r in found}.items():
                values = {r.statistic: r.value for r in found if r.layer_number == number}
                row = {"optimizer": optimizer, "step": step, "layer": number}
                row |= {"name": layer.removesuffix("/kernel")}
                row |= {
                    "sampled": int(values["num_entries"]),
                    "all": int(values["full_num_entries"]),
                }
                rows.append(row | {key: values[key] for key in KEYS})
    finite = [row for row in rows if np.isfinite([row["r_med"], row["full_r_med"]]).all()]
    shares = [row["r_med"] / row["full_r_med"] for row in finite]
    by_place = {(r["optimizer"], r["step"], r["layer"]): r for r in rows}
    later = {(step, layer) for _, step, layer in by_place if step > 0}
    sides = [
        [by_place["sgd", *p][key] > by_place["adagrad", *p][key] for key in ("r_med", "full_r_med")]
        for p in sorted(later)
    ]
    same = sum(a == b for a, b in sides)
    verdict = (
        f"the sampled R_med is {np.median(shares):.2f} times the whole layer's in the median of "
        f"{len(finite)} ({min(shares):.2f} to {max(shares):.2f}; {len(rows) - len(finite)} have a "
        "median entry of zero and are left out); both say the same of SGD and Adagrad in "
        f"{same} of {len(sides)} (layer, step)"
    )
    header = ["#", "layer", "optimizer", "step", "sampled", "all", "R_med, sampled"]
    header += ["5% of halves", "95%", "R_med, whole layer"]
    cells = [
        [
            *(str(r["layer"]), r["name"], label(r["optimizer"])),
            *(str(r[key]) for key in ("step", "sampled", "all")),
            *(format_number(r[key]) for key in KEYS),
        ]
        for r in rows
    ]
    table = Table("R_med: sampled coordinates and whole layers", header, cells, [])
    return Result(rows, table, {"extra_full": _figure(rows)}, verdict)


def _figure(rows) -> Figure:
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for k, optimizer in enumerate(("sgd", "adagrad")):
        own = [row for row in rows if row["optimizer"] == optimizer]
        axes.plot(
            [row["full_r_med"] for row in own],
            [row["r_med"] for row in own],
            linestyle="none",
            color=COLORS[k],
            marker=MARKERS[k],
            label=label(optimizer),
        )
    finite = [row[key] for row in rows for key in ("r_med", "full_r_med") if np.isfinite(row[key])]
    ends = [min(finite), max(finite)]
    axes.plot(ends, ends, color="black", linewidth=0.8, label="equal")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="R_med of the whole layer (log scale)",
        ylabel="R_med of sampled coordinates (log scale)",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
