"""Records: losses and statistics of the runs of a work folder, as CSV files.

Each run (an optimizer and a repeat) writes its own files, whole and atomically at each event; the
work folder's `losses.csv`, `geometry.csv`, `evaluation.csv` and `iterates.csv` are these put
together.
"""

import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from hgeo.errors import InputError
from hgeo.records.rows import (
    EvaluationRow,
    GeometryRow,
    IterateRow,
    LossRow,
    NotFiniteRow,
    ProbeLossRow,
    entries_not_finite,
)

# What one line of each kind of measurement says.
MEASURED_ROWS = {"probe": GeometryRow, "evaluation": EvaluationRow, "loss": ProbeLossRow}


class RunRecords:
    """What one run has recorded; rows are kept by step, so that a step done again replaces its own.

    Attributes:
      losses: `LossRow`s by step.
      geometry: `GeometryRow`s by step.
      evaluation: `EvaluationRow`s by step.
      probe_losses: `ProbeLossRow`s by step, one each.
      not_finite: `NotFiniteRow`s by step.
      iterates: `IterateRow`s by purpose and target.
      repairs: lines about files whose end was lost; what they lack is to be done again.
    """

    def __init__(self, folder: epath.PathLike):
        """Reads what `folder` already holds.

        Raises:
          InputError: a file with a line that can't be one of its rows.
        """
        self.folder = epath.Path(folder)
        self.repairs: list[str] = []
        self.losses: dict[int, LossRow] = {row.step: row for row in self._read("losses", LossRow)}
        self.geometry: dict[int, list[GeometryRow]] = self._whole_steps("geometry", GeometryRow)
        self.evaluation: dict[int, list[EvaluationRow]] = self._whole_steps(
            "evaluation", EvaluationRow
        )
        self.probe_losses: dict[int, list[ProbeLossRow]] = _by_step(
            self._read("probe_losses", ProbeLossRow)
        )
        self.not_finite: dict[int, NotFiniteRow] = {
            row.step: row for row in self._read("not_finite", NotFiniteRow)
        }
        self.iterates: dict[tuple[str, float], IterateRow] = {
            (row.purpose, row.target): row for row in self._read("iterates", IterateRow)
        }

    @property
    def diverged_at(self) -> int | None:
        """The step of the first update that isn't finite, or whose loss isn't; `None` for none."""
        steps = [row.step for row in self.losses.values() if not math.isfinite(row.loss)]
        return min([*steps, *self.not_finite], default=None)

    @property
    def divergence(self) -> str:
        """What was not finite at `diverged_at`, in words."""
        step = self.diverged_at
        if step is None:
            return ""
        row = self.not_finite.get(step)
        loss = f"loss {self.losses[step].loss:.4g}"
        if row is None or row.quantity == "loss":
            return loss + (f", first seen in {row.layer}" if row and row.layer else "")
        return f"{loss}; the {row.quantity} of {row.layer} is not finite"

    @property
    def not_finite_entries(self) -> list[tuple[int, str, int, int]]:
        """(step, layer, how many, of how many) wherever Hessian entries were not finite."""
        return sorted(
            found for rows in self.geometry.values() for found in entries_not_finite(rows)
        )

    @property
    def is_finite(self) -> bool:
        """Whether neither training nor a Hessian entry came to an inf or a NaN."""
        return self.diverged_at is None and not self.not_finite_entries

    def measured(self, kind: str) -> dict[int, list[Any]]:
        """The rows of a kind of measurement by step: `"probe"`, `"evaluation"` or `"loss"`."""
        by_kind: dict[str, dict[int, list[Any]]] = {
            "probe": self.geometry,
            "evaluation": self.evaluation,
            "loss": self.probe_losses,
        }
        return by_kind[kind]

    def loss_rows(self) -> list[LossRow]:
        """The loss rows in the order of their steps."""
        return [self.losses[step] for step in sorted(self.losses)]

    def geometry_rows(self) -> list[GeometryRow]:
        """The statistics' rows in the order of their steps."""
        return [row for step in sorted(self.geometry) for row in self.geometry[step]]

    def evaluation_rows(self) -> list[EvaluationRow]:
        """The metrics' rows in the order of their steps."""
        return [row for step in sorted(self.evaluation) for row in self.evaluation[step]]

    def probe_loss_rows(self) -> list[ProbeLossRow]:
        """The probe batch's losses in the order of their steps."""
        return [row for step in sorted(self.probe_losses) for row in self.probe_losses[step]]

    def write(self) -> None:
        """Writes all files; some of them only where they have rows."""
        always: dict[str, tuple[type, Iterable[Any]]] = {
            "losses": (LossRow, self.loss_rows()),
            "geometry": (GeometryRow, self.geometry_rows()),
            "evaluation": (EvaluationRow, self.evaluation_rows()),
            "iterates": (IterateRow, self.iterates.values()),
        }
        sometimes: dict[str, tuple[type, Sequence[Any]]] = {
            "probe_losses": (ProbeLossRow, self.probe_loss_rows()),
            "not_finite": (NotFiniteRow, list(self.not_finite.values())),
        }
        there = {name: both for name, both in sometimes.items() if both[1]}
        for name, (kind, rows) in (always | there).items():
            write_rows(self.folder / f"{name}.csv", kind, rows)

    def write_arrays(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the arrays behind the statistics of a step, as `arrays/STEP.npz`, whole."""
        buffer = io.BytesIO()
        named: dict[str, Any] = {name.replace("/", "."): a for name, a in arrays.items()}
        np.savez_compressed(buffer, **named)
        write_bytes(self.folder / "arrays" / f"{step}.npz", buffer.getvalue())

    def read_arrays(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of a step by `layer.name`, with dots in the place of slashes."""
        content = (self.folder / "arrays" / f"{step}.npz").read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def _read(self, name: str, kind: type) -> list[Any]:
        """The rows of a file; a last line without its end is left out, and noted."""
        path = self.folder / f"{name}.csv"
        rows, half = read_rows(path, kind)
        if half is not None:
            self.repairs.append(
                f"{path} ended in half a line, {half!r}; it is left out, and what it said is done "
                "again"
            )
        return rows

    def _whole_steps(self, name: str, kind: type) -> dict[int, list[Any]]:
        """Rows by step, without a last step that has lost some of its rows."""
        known, found = len(self.repairs), _by_step(self._read(name, kind))
        last = max(found, default=None)
        most = max(map(len, found.values()), default=0)
        if last is not None and (len(self.repairs) > known or len(found[last]) < most):
            if len(found[last]) < most and len(self.repairs) == known:
                self.repairs.append(
                    f"{self.folder / name}.csv has {len(found[last])} rows of step {last} and "
                    f"{most} of others; the step is done again"
                )
            del found[last]
        return found


def write_text(path: epath.Path, text: str) -> None:
    """Writes a file whole: it appears under its name complete or not at all.

    Of several processes the first one writes.
    """
    write_bytes(path, text.encode())


def write_bytes(path: epath.Path, content: bytes) -> None:
    """As `write_text`, of bytes."""
    if jax.process_index() > 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.partial"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if "://" not in str(path):
                os.fsync(file.fileno())  # or a machine that stops could leave an empty file
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error}; what it held before is still there, and the same "
            "command goes on once there is room"
        ) from error


def write_rows(path: epath.Path, kind: type, rows: Iterable[Any]) -> None:
    """Writes dataclass rows as CSV under a header of the fields' names."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    fields = [field.name for field in dataclasses.fields(kind)]
    writer.writerow(fields)
    for row in rows:
        writer.writerow([_text(getattr(row, name)) for name in fields])
    write_text(path, buffer.getvalue())


def _by_step(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found = {}
    for row in rows:
        found.setdefault(row.step, []).append(row)
    return found


def read_rows(path: epath.Path, kind: type) -> tuple[list[Any], str | None]:
    """The rows of a CSV file, and the text of a last line that has no end; `None` for whole files.

    Raises:
      InputError: another header, or a line that can't be a row, named with its number.
    """
    if not path.exists():
        return [], None
    types: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(kind)}
    # Bytes that are no text become characters that fit no column.
    whole, end, half = path.read_bytes().decode(errors="replace").rpartition("\n")
    lines = whole.split("\n") if end else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            cells = next(csv.reader([line]), [])
            if number == 1 and cells != list(types):
                raise ValueError(f"the header must be {','.join(types)}")
            if number > 1:
                values = zip(types.items(), cells, strict=True)
                rows.append(kind(**{name: read(cell) for (name, read), cell in values}))
        except (ValueError, csv.Error) as error:
            raise InputError(
                f"{path}, line {number} is damaged: {line[:200]!r} ({error}). Put it right, or "
                "remove the file to have all of it done again"
            ) from error
    return rows, half if half or not lines else None


def _text(value: Any) -> str:
    # Nine significant digits give back every float32.
    return f"{value:.9g}" if isinstance(value, (float, np.floating)) else str(value)
