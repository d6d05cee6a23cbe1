"""The file `geometry.csv` of a loop that is not ours, to which one step after another is added."""

import os
import warnings
from collections.abc import Sequence

import jax
from etils import epath

from hgeo.errors import InputError
from hgeo.records.rows import GeometryRow
from hgeo.records.run_records import read_rows, write_rows


class GeometryFile:
    """`geometry.csv` of a folder; it appears whole, or not at all.

    It is read again before each step is added, so that several loops may take turns in one folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Takes the folder.

        Raises:
          InputError: its `geometry.csv` has another header, or a line that can't be a row.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(f"workdir must be the path of a folder, or None, not {folder!r}")
        self._path = epath.Path(folder) / "geometry.csv"
        check_folder("workdir", folder)
        self._known = {_place(row) for row in self.rows()}

    def rows(self) -> list[GeometryRow]:
        """What it holds."""
        rows, half = read_rows(self._path, GeometryRow)
        if half is not None:
            warnings.warn(
                f"{self._path} ended in half a line, {half!r}; it is left out", stacklevel=4
            )
        return rows

    def replace(self, rows: Sequence[GeometryRow]) -> None:
        """Adds the rows of a step of one optimizer and repeat, in the place of those it has.

        Raises:
          InputError: another one has meanwhile written such a step under the same name.
        """
        new, there = {_place(row) for row in rows}, self.rows()
        others = new & {_place(row) for row in there} - self._known
        if others and jax.process_index() == 0:
            name, repeat, step = min(others)
            raise InputError(
                f"{self._path} has rows of step {step}, name {name!r}, repeat {repeat} of another "
                "monitor that is running: give each monitor a name or a repeat of its own"
            )
        self._known |= new
        kept = [row for row in there if _place(row) not in new]
        ordered = sorted([*kept, *rows], key=lambda row: row.step)
        write_rows(self._path, GeometryRow, ordered)


def check_folder(argument: str, folder: str | os.PathLike[str]) -> None:
    """Raises an InputError if a file is where a folder is to be."""
    path = epath.Path(folder)
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                where = f"{argument}={os.fspath(folder)!r}"
                raise InputError(f"{where} must be a folder, but {part} is a file")
            return


def _place(row: GeometryRow) -> tuple[str, int, int]:
    return row.optimizer, row.repeat, row.step
