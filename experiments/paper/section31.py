"""Section 3.1: smoothness and condition number of a Transformer layer's Hessian at its start."""

from matplotlib.figure import Figure

from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, train
from hgeo.report.figures import COLORS, MARKERS, STYLE
from hgeo.report.tables import Table, format_number

GAINS = (1, 10, 100, 800)
KEYS = ("largest_magnitude", "smoothness", "condition_number", "range_condition_number", "r_med")


def run(context: ReproductionContext) -> Result:
    """Looks at two out-projections of the language model for each gain."""
    rows = []
    for gain in GAINS:
        record, *_ = train(f"section31_{gain}", context).of("sgd")  # all start alike
        layers = {row.layer_number: row.layer for row in record.geometry[0]}
        for number, layer in layers.items():
            values = {r.statistic: r.value for r in record.geometry[0] if r.layer_number == number}
            row = {"gain": gain, "layer": number, "name": layer.removesuffix("/kernel")}
            row |= {"loss": record.geometry[0][0].loss} | {key: values[key] for key in KEYS}
            rows.append(row | {"hessian_rank": int(values["hessian_rank"])})
    header = ["#", "layer", "gain", "loss", "largest |eigenvalue|", "by Lanczos"]
    header += ["condition number", "on the range", "rank", "R_med"]
    cells = [
        [str(row["layer"]), row["name"], str(row["gain"]), format_number(row["loss"])]
        + [format_number(row[key]) for key in KEYS[:4]]
        + [str(row["hessian_rank"]), format_number(row["r_med"])]
        for row in rows
    ]
    note = (
        "All eigenvalues of the dense Hessian in float64; its condition number is the largest over "
        "the smallest |eigenvalue|, on the range over the smallest that is not zero to rounding."
    )
    title = "Section 3.1: a layer's Hessian at initialisation, by gain"
    (first, last) = (max(r["largest_magnitude"] for r in rows if r["gain"] == g) for g in (1, 800))
    kappas = [max(r["range_condition_number"] for r in rows if r["gain"] == g) for g in (1, 800)]
    verdict = (
        "the paper claims that a large gain makes "
        f"both extremely large; from gain 1 to 800 the smoothness goes from {format_number(first)} "
        f"to {format_number(last)}, the condition number on the range from "
        f"{format_number(kappas[0])} to {format_number(kappas[1])}"
    )
    return Result(rows, Table(title, header, cells, [note]), {"section31": _figure(rows)}, verdict)


def _figure(rows) -> Figure:
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    for axes, key, text in zip(
        figure.subplots(1, 2),
        ("largest_magnitude", "range_condition_number"),
        ("largest |eigenvalue| (nats)", "condition number on the range"),
        strict=True,
    ):
        for k, number in enumerate(dict.fromkeys(row["layer"] for row in rows)):
            own = [row for row in rows if row["layer"] == number]
            look = {"color": COLORS[k], "marker": MARKERS[k], "label": own[0]["name"], **STYLE}
            axes.plot([row["gain"] for row in own], [row[key] for row in own], **look)
        axes.set(xscale="log", yscale="log", xlabel="gain (log scale)", ylabel=f"{text}, log scale")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure
