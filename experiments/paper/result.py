"""What an experiment gives, and how it is written: CSV, Markdown, PNG, SVG and a verdict."""

import csv
import dataclasses
import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.figure import Figure

from hgeo.records.run_records import write_bytes, write_text
from hgeo.report.figures import Image, render
from hgeo.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of an experiment.

    Attributes:
      rows: the numbers, one mapping a row, all with the same keys.
      table: those worth reading.
      figures: by file name without a suffix.
      verdict: one line: the claim and the result; the outcome comes before it.
    """

    rows: Sequence[Mapping[str, Any]]
    table: Table
    figures: Mapping[str, Figure]
    verdict: str

    @functools.cached_property
    def images(self) -> dict[str, Image]:
        """The figures, drawn once for files and page."""
        return {name: render(figure) for name, figure in self.figures.items()}


def write_result(folder: epath.Path, name: str, result: Result, command: str) -> None:
    """Writes `NAME.csv`, `NAME.md` with the command, and every figure as PNG and SVG."""
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, list(dict.fromkeys(key for row in result.rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    for row in result.rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_text(folder / f"{name}.csv", buffer.getvalue())
    write_text(
        folder / f"{name}.md", f"{result.table.markdown()}\n{result.verdict}\n\n`{command}`\n"
    )
    for figure_name, image in result.images.items():
        write_bytes(folder / f"{figure_name}.png", image.png)
        write_bytes(folder / f"{figure_name}.svg", image.svg)
