"""The table of one iterate: a row for each layer, a column for each value."""

from collections.abc import Sequence

from hgeo.records.rows import GeometryRow, entries_not_finite
from hgeo.report.tables import format_number
from hgeo.report.text_table import Table

# Statistics that the notes or only the CSV file show.
_COUNTS = ("num_entries", "num_zero", "num_nonfinite")


def layer_table(rows: Sequence[GeometryRow], title: str) -> Table:
    """All values of the rows of one step except the numbers of entries."""
    layers = {row.layer_number: row.layer for row in rows}
    values = {(row.statistic, row.layer_number): row.value for row in rows}
    names = dict.fromkeys(row.statistic for row in rows)
    shown = [name for name in names if not name.endswith(_COUNTS)]
    cells = [
        [str(number), layer, *(_cell(name, values.get((name, number))) for name in shown)]
        for number, layer in layers.items()
    ]
    notes = [
        f"{number} of {total} Hessian entries of {layer} are not finite"
        for _, layer, number, total in entries_not_finite(rows)
    ]
    return Table(title, ["#", "layer", *shown], cells, notes)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if name == "rank" else format_number(value)
