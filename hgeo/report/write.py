"""Writes a work folder's report at the end of its runs."""

import math
from collections.abc import Mapping, Sequence

from etils import epath
from matplotlib.figure import Figure
from rich.console import Console

from hgeo.records.run_records import (
    EvaluationRow,
    GeometryRow,
    IterateRow,
    LossRow,
    ProbeLossRow,
    RunRecords,
    write_bytes,
    write_rows,
    write_text,
)
from hgeo.report import figures
from hgeo.report.page import experiment_page
from hgeo.report.summary import ExperimentSummary
from hgeo.report.tables import STATISTIC, TITLES, WIDTH, Table, compare, compare_at_losses, held_out


def write_report(
    summary: ExperimentSummary,
    records: Sequence[RunRecords],
    folder: epath.Path,
    console: Console,
    losses: Sequence[float] = (),
    command: str = "",
    more: Mapping[str, Figure] | None = None,
) -> None:
    """Writes the work folder's records, table, figures and page, and prints the table.

    The CSV files hold the rows of all runs, `table.md` the printed tables.

    Args:
      summary: of the experiment.
      records: of its runs.
      folder: where the files go.
      console: where the tables go.
      losses: at which runs are compared.
      command: the command that makes the report; empty for none.
      more: further figures, which come first, by a name that the page knows.
    """
    write_rows(folder / "losses.csv", LossRow, (r for run in records for r in run.loss_rows()))
    rows = (row for run in records for row in run.geometry_rows())
    write_rows(folder / "geometry.csv", GeometryRow, rows)
    rows = (row for run in records for row in run.evaluation_rows())
    write_rows(folder / "evaluation.csv", EvaluationRow, rows)
    rows = [row for run in records for row in run.probe_loss_rows()]
    if rows:
        write_rows(folder / "probe_losses.csv", ProbeLossRow, rows)
    rows = (row for run in records for row in run.iterates.values())
    write_rows(folder / "iterates.csv", IterateRow, rows)

    tables = _tables(summary, records, losses, WIDTH)
    write_text(folder / "table.md", "\n".join(table.markdown() for table in tables))
    drawn = {
        **(more or {}),
        "losses": figures.loss_curves(records, summary.optimizers),
        "loss_and_r_med": figures.loss_and_r_med(records, summary.optimizers),
        "r_med": figures.r_med_by_layer(records, summary.optimizers),
    }
    images = {name: figures.render(figure) for name, figure in drawn.items()}
    for name, image in images.items():
        write_bytes(folder / "figures" / f"{name}.png", image.png)
        write_bytes(folder / "figures" / f"{name}.svg", image.svg)
    whole = _tables(summary, records, losses, math.inf)
    page = experiment_page(summary, records, whole, images, command)
    write_text(folder / "report.html", page)

    for table in tables:
        console.print(table.text(), highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _tables(
    summary: ExperimentSummary, records: Sequence[RunRecords], losses: Sequence[float], width: float
) -> list[Table]:
    """R_med first, at the probe's steps and at equal losses, then the other statistics."""
    tables = []
    for pair in summary.compared_pairs:
        tables += compare(records, pair, summary.probe_steps, width=width)
        tables += compare_at_losses(records, pair, losses, width)
    for name in TITLES:
        if name != STATISTIC:
            for pair in summary.compared_pairs:
                tables += compare(records, pair, summary.probe_steps, name, width)
    return tables + held_out(records)
