"""The file `geometry.csv` of a loop that is not ours, to which one step after another is added."""

import os
import warnings
from collections.abc import Sequence

from etils import epath

from hgeo.records import read_rows, write_rows
from hgeo.rows import GeometryRow


class GeometryFile:
    """`geometry.csv` of a folder; it appears whole, or not at all.

    It is read again before each step is added, so that several loops may take turns in one folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Takes the folder.

        Raises:
          InputError: its `geometry.csv` has another header, or a line that can't be a row.
        """
        self._path = epath.Path(folder) / "geometry.csv"
        self.rows()

    def rows(self) -> list[GeometryRow]:
        """What it holds."""
        rows, half = read_rows(self._path, GeometryRow)
        if half is not None:
            warnings.warn(
                f"{self._path} ended in half a line, {half!r}; it is left out", stacklevel=4
            )
        return rows

    def replace(self, rows: Sequence[GeometryRow]) -> None:
        """Adds the rows of a step of one optimizer and repeat, in the place of those it has."""
        place = lambda row: (row.optimizer, row.repeat, row.step)
        new = {place(row) for row in rows}
        kept = [row for row in self.rows() if place(row) not in new]
        ordered = sorted([*kept, *rows], key=lambda row: row.step)
        write_rows(self._path, GeometryRow, ordered)
