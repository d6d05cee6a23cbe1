"""Figure 1(b): R_med of SGD+M and Adam over time, on translation."""

from experiments.paper.comparison import Side
from experiments.paper.over_time import panels_over_time, table_rows, values_over_time
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext
from hgeo.records.layer_numbers import is_whole
from hgeo.report.tables import Table

LAYERS = (3, 5, 7, 9, 12, 15, 18, 21, 24, 28)  # those of table 2
SIDES = (Side("translation", "sgdm"), Side("translation", "adam"))


def run(context: ReproductionContext) -> Result:
    """Draws R_med of the layers of table 2, and counts all of them."""
    rows = values_over_time(SIDES, "r_med", context)
    shown = [row for row in rows if row["layer"] in LAYERS]
    steps = sorted({row["step"] for row in rows})
    values = {(r["optimizer"], r["layer"], r["step"]): r["mean"] for r in rows}
    layers = sorted({row["layer"] for row in rows if is_whole(row["layer"])})
    counts = []
    for step in steps[1:]:
        above = sum(values["sgdm", n, step] > values["adam", n, step] for n in layers)
        counts.append(f"{above} of {len(layers)} at step {step}")
    header = ["#", "layer", "optimizer", "statistic", *(f"step {step}" for step in steps)]
    table = Table("Figure 1(b): mean R_med over time", header, table_rows(shown, steps), [])
    verdict = (
        "the paper claims that SGD+M's R_med is above Adam's but in the first layers; ours, means "
        f"over {rows[0]['repeats']} repeat(s): above it in {', '.join(counts)}"
    )
    return Result(rows, table, {"figure1b": panels_over_time(shown, "R_med")}, verdict)
