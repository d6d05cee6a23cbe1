"""Figure 14: how diagonal BERT's Hessian is over time, mean and median r_diag."""

from typing import Any

from experiments.paper.comparison import Side
from experiments.paper.over_time import panels_over_time, table_rows, values_over_time
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext
from hgeo.report.tables import Table

SIDES = (Side("bert_rows", "sgdm"), Side("bert_rows", "adam"))
STATISTICS = {
    "r_diag_across_mean": "mean, across",
    "r_diag_across_median": "median, across",
    "r_diag_mean": "mean, within",
    "r_diag_median": "median, within",
}


def run(context: ReproductionContext) -> Result:
    """Rows within each layer, and across all four as the paper has them."""
    rows: list[dict[str, Any]] = [
        row | {"statistic": text}
        for key, text in STATISTICS.items()
        for row in values_over_time(SIDES, key, context)
    ]
    steps = sorted({row["step"] for row in rows})
    values = {(r["statistic"], r["optimizer"], r["layer"], r["step"]): r["mean"] for r in rows}
    lines = list(dict.fromkeys(key[:3] for key in values))
    ends = {line: [values[(*line, step)] for step in (steps[0], steps[-1])] for line in lines}
    falls = {
        text: [last < first for (own, *_), (first, last) in ends.items() if own == text]
        for text in STATISTICS.values()
    }
    summary = ", ".join(f"{text} in {sum(f)} of {len(f)}" for text, f in falls.items())
    verdict = (
        "the paper claims that mean and median fall over time under both; "
        f"from step {steps[0]} to {steps[-1]} ours fall in (optimizer, layer): {summary}"
    )
    header = ["#", "layer", "optimizer", "r_diag", *(f"step {step}" for step in steps)]
    table = Table("Figure 14: r_diag of BERT's layers", header, table_rows(rows, steps), [])
    drawn = [row for row in rows if "across" in row["statistic"]]
    return Result(
        rows, table, {"figure14": panels_over_time(drawn, "r_diag across layers")}, verdict
    )
