"""What an experiment gives, and how it is written: CSV, Markdown, PNG, SVG and a verdict."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.figure import Figure

from hgeo.figures import png
from hgeo.records import write_text
from hgeo.tables import Table


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of an experiment.

    Attributes:
      rows: the numbers, one mapping a row, all with the same keys.
      table: those worth reading.
      figures: by file name without a suffix.
      verdict: one line: what was found, and whether it is what was claimed.
    """

    rows: Sequence[Mapping[str, Any]]
    table: Table
    figures: Mapping[str, Figure]
    verdict: str


def write_result(folder: epath.Path, name: str, result: Result) -> None:
    """Writes `NAME.csv`, `NAME.md`, and every figure as PNG and SVG."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(result.rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in result.rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_text(folder / f"{name}.csv", buffer.getvalue())
    write_text(folder / f"{name}.md", f"{result.table.markdown()}\n{result.verdict}\n")
    for figure_name, figure in result.figures.items():
        path = folder / f"{figure_name}.png"
        path.write_bytes(png(figure))
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        write_text(folder / f"{figure_name}.svg", text.getvalue())
