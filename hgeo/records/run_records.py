"""Losses and statistics of the runs of a work folder, as CSV files.

Each run (an optimizer and a repeat) has its files, which are replaced atomically at each event. The
work folder's `losses.csv`, `geometry.csv`, `evaluation.csv` and `iterates.csv` join those of all
runs.
"""

import contextlib
import csv
import dataclasses
import io
import math
import os
import uuid
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

# A file in the folder of a run whose checkpoints were left behind.
ARCHIVED = "archived"

# The row type of each kind of measurement.
MEASURED_ROWS = {"probe": GeometryRow, "evaluation": EvaluationRow, "loss": ProbeLossRow}


class RunRecords:
    """The records of one run by step; a repeated step replaces its rows.

    Attributes:
      losses: `LossRow`s by step.
      geometry: `GeometryRow`s by step.
      evaluation: `EvaluationRow`s by step.
      probe_losses: `ProbeLossRow`s by step, one for each step.
      not_finite: `NotFiniteRow`s by step.
      iterates: `IterateRow`s by purpose and target.
      repairs: messages about files whose end is lost; the run repeats what is missing.
      is_archived: whether the run's checkpoints were left behind when it was whole.
    """

    def __init__(self, folder: epath.PathLike):
        """Reads the files in `folder`.

        Raises:
          InputError: a file has another header or a damaged line.
        """
        self.folder = epath.Path(folder)
        self.repairs: list[str] = []
        self.is_archived = (self.folder / ARCHIVED).exists()
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
        """The first step with an update or loss that is not finite; `None` if there is none."""
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
        """(step, layer, number, total) of each layer with Hessian entries that are not finite."""
        return sorted(
            entries for rows in self.geometry.values() for entries in entries_not_finite(rows)
        )

    @property
    def is_finite(self) -> bool:
        """Whether training and all Hessian entries are finite."""
        return self.diverged_at is None and not self.not_finite_entries

    @property
    def same_loss_steps(self) -> list[int]:
        """The steps of its iterates at the compared losses, as far as they were reached."""
        rows = self.iterates.values()
        return [row.step for row in rows if row.purpose == "same_loss" and row.step >= 0]

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
        """Writes all files; `probe_losses` and `not_finite` only if they have rows."""
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
        """Writes the arrays behind the statistics of a step to `arrays/STEP.npz`, atomically."""
        buffer = io.BytesIO()
        named: dict[str, Any] = {name.replace("/", "."): a for name, a in arrays.items()}
        np.savez_compressed(buffer, **named)
        write_bytes(self.folder / "arrays" / f"{step}.npz", buffer.getvalue())

    def read_arrays(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of a step by `layer.name`, with dots for the slashes of the layer."""
        content = (self.folder / "arrays" / f"{step}.npz").read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def _read(self, name: str, kind: type) -> list[Any]:
        """The rows of a file; half a line at its end is dropped and noted in `repairs`."""
        path = self.folder / f"{name}.csv"
        rows, half = read_rows(path, kind)
        if half is not None:
            self.repairs.append(
                f"{path} ended in half a line, {half!r}; hgeo drops it and repeats what it held"
            )
        return rows

    def _whole_steps(self, name: str, kind: type) -> dict[int, list[Any]]:
        """Rows by step, without the last step if some of its rows are lost."""
        known, found = len(self.repairs), _by_step(self._read(name, kind))
        last = max(found, default=None)
        most = max(map(len, found.values()), default=0)
        if last is not None and (len(self.repairs) > known or len(found[last]) < most):
            if len(found[last]) < most and len(self.repairs) == known:
                self.repairs.append(
                    f"{self.folder / name}.csv has {len(found[last])} rows of step {last} and "
                    f"{most} of other steps; hgeo repeats the step"
                )
            del found[last]
        return found


def write_text(path: epath.Path, text: str) -> None:
    """Writes a file atomically: under its name there is the old or the new text, never a part.

    Of several processes only the first writes.
    """
    write_bytes(path, text.encode())


def write_bytes(path: epath.Path, content: bytes) -> None:
    """As `write_text`, for bytes."""
    if jax.process_index() > 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Shares of one experiment may write the same file at the same moment.
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if "://" not in str(path):
                os.fsync(file.fileno())  # else a crash could leave an empty file
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(
            f"{path} can't be written: {error}; its old content is unchanged. Make room, and run "
            "the same command to continue"
        ) from error


def remove_partial(run: epath.Path) -> None:
    """Removes what killed processes left of half-written files in a run's folder."""
    if jax.process_index() == 0:
        for folder in (run, run / "arrays"):
            for path in folder.glob(".*.partial"):
                path.unlink()


def write_rows(path: epath.Path, kind: type, rows: Iterable[Any]) -> None:
    """Writes dataclass rows as CSV, with the fields' names as header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    fields = [field.name for field in dataclasses.fields(kind)]
    writer.writerow(fields)
    for row in rows:
        writer.writerow([_text(getattr(row, name)) for name in fields])
    write_text(path, buffer.getvalue())


def _by_step(rows: Iterable[Any]) -> dict[int, list[Any]]:
    by_step = {}
    for row in rows:
        by_step.setdefault(row.step, []).append(row)
    return by_step


def read_rows(path: epath.Path, kind: type) -> tuple[list[Any], str | None]:
    """The rows of a CSV file, and half a line at its end; `None` if the last line is whole.

    Raises:
      InputError: another header, or a damaged line; the message has its number.
    """
    if not path.exists():
        return [], None
    types: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(kind)}
    # Bytes that are not text become characters that fit no column.
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
                f"{path}, line {number} is damaged: {line[:200]!r} ({error}). Correct the line, or "
                "remove the file to repeat all that it holds"
            ) from error
    return rows, half if half or not lines else None


def as_recorded(value: float) -> float:
    """The number that is read back of a number that was written: nine digits of it."""
    return float(_text(float(value)))


def _text(value: Any) -> str:
    # Nine significant digits determine every float32.
    return f"{value:.9g}" if isinstance(value, (float, np.floating)) else str(value)
