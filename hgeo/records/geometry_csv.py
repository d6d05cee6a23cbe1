"""The file `geometry.csv` of a monitor, to which one step after another is added."""

import contextlib
import fcntl
import os
import warnings
from collections.abc import Iterator, Sequence

import jax
from etils import epath

from hgeo.errors import InputError
from hgeo.records.rows import GeometryRow
from hgeo.records.run_records import read_rows, write_rows


class GeometryFile:
    """`geometry.csv` of a folder, replaced as a whole at each step.

    It is read before each step is added, and locked meanwhile, so that several processes may write
    to one folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Takes the folder.

        Raises:
          InputError: its `geometry.csv` has another header or a damaged line.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(f"workdir must be the path of a folder, or None, not {folder!r}")
        self._path = epath.Path(folder) / "geometry.csv"
        check_folder("workdir", folder)
        self._known = {_place(row) for row in self.rows()}

    def rows(self) -> list[GeometryRow]:
        """The rows of the file."""
        rows, half = read_rows(self._path, GeometryRow)
        if half is not None:
            warnings.warn(
                f"{self._path} ended in half a line, {half!r}; hgeo drops it", stacklevel=4
            )
        return rows

    def replace(self, rows: Sequence[GeometryRow]) -> None:
        """Adds the rows of a step of one optimizer and repeat; replaces rows of the same step.

        Raises:
          InputError: another monitor has meanwhile written the same step, name and repeat.
        """
        with _locked(self._path.parent):
            self._replace(rows)

    def _replace(self, rows: Sequence[GeometryRow]) -> None:
        new, there = {_place(row) for row in rows}, self.rows()
        others = new & {_place(row) for row in there} - self._known
        if others and jax.process_index() == 0:
            name, repeat, step = min(others)
            raise InputError(
                f"{self._path} has rows of step {step}, name {name!r}, repeat {repeat} of another "
                "monitor that is running: give each monitor a different name or repeat"
            )
        self._known |= new
        kept = [row for row in there if _place(row) not in new]
        ordered = sorted([*kept, *rows], key=lambda row: row.step)
        write_rows(self._path, GeometryRow, ordered)


def check_folder(argument: str, folder: str | os.PathLike[str]) -> None:
    """Raises an InputError if a folder or one of its parents is a file."""
    path = epath.Path(folder)
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                where = f"{argument}={os.fspath(folder)!r}"
                raise InputError(f"{where} must be a folder, but {part} is a file")
            return


@contextlib.contextmanager
def _locked(folder: epath.Path) -> Iterator[None]:
    """Waits until no other process writes to a folder of a local file system that has locks."""
    if "://" in str(folder) or jax.process_index() > 0:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _place(row: GeometryRow) -> tuple[str, int, int]:
    return row.optimizer, row.repeat, row.step
