"""Records: losses and statistics of the runs of a work folder, as CSV files.

Each run (an optimizer and a repeat) writes its own files, whole and atomically at each event; the
work folder's `losses.csv`, `geometry.csv`, `evaluation.csv` and `iterates.csv` are these put
together.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath


@dataclasses.dataclass(frozen=True)
class LossRow:
    """The loss of the parameters after `step` updates, on the minibatch of the next update."""

    optimizer: str
    repeat: int
    step: int
    epoch: float
    loss: float


@dataclasses.dataclass(frozen=True)
class GeometryRow:
    """A statistic of one layer after `step` updates; `loss` is that of the probe's batch."""

    optimizer: str
    repeat: int
    step: int
    epoch: float
    loss: float
    layer_number: int
    layer: str
    statistic: str
    value: float


@dataclasses.dataclass(frozen=True)
class EvaluationRow:
    """A metric of the held-out examples after `step` updates."""

    optimizer: str
    repeat: int
    step: int
    epoch: float
    metric: str
    value: float


@dataclasses.dataclass(frozen=True)
class IterateRow:
    """An iterate that was looked for by its loss.

    `purpose` is `"start"` (where the run goes on from another) or `"same_loss"`. `step` is the
    first whose smoothed training loss `loss` is at most `target`; −1 where there is none, and
    `loss` then the lowest.
    """

    optimizer: str
    repeat: int
    purpose: str
    target: float
    step: int
    loss: float


class RunRecords:
    """What one run has recorded; rows are kept by step, so that a step done again replaces its own.

    Attributes:
      losses: `LossRow`s by step.
      geometry: `GeometryRow`s by step.
      evaluation: `EvaluationRow`s by step.
      iterates: `IterateRow`s by purpose and target.
    """

    def __init__(self, folder: epath.PathLike):
        """Reads what `folder` already holds."""
        self.folder = epath.Path(folder)
        losses = _read(self.folder / "losses.csv", LossRow)
        self.losses: dict[int, LossRow] = {row.step: row for row in losses}
        self.geometry: dict[int, list[GeometryRow]] = _by_step(
            _read(self.folder / "geometry.csv", GeometryRow)
        )
        self.evaluation: dict[int, list[EvaluationRow]] = _by_step(
            _read(self.folder / "evaluation.csv", EvaluationRow)
        )
        rows = _read(self.folder / "iterates.csv", IterateRow)
        self.iterates: dict[tuple[str, float], IterateRow] = {
            (row.purpose, row.target): row for row in rows
        }

    @property
    def diverged_at(self) -> int | None:
        """The first step whose loss is not finite, if there is one."""
        return next((row.step for row in self.loss_rows() if not math.isfinite(row.loss)), None)

    def loss_rows(self) -> list[LossRow]:
        """The loss rows in the order of their steps."""
        return [self.losses[step] for step in sorted(self.losses)]

    def geometry_rows(self) -> list[GeometryRow]:
        """The statistics' rows in the order of their steps."""
        return [row for step in sorted(self.geometry) for row in self.geometry[step]]

    def evaluation_rows(self) -> list[EvaluationRow]:
        """The metrics' rows in the order of their steps."""
        return [row for step in sorted(self.evaluation) for row in self.evaluation[step]]

    def write(self) -> None:
        """Writes all files."""
        write_rows(self.folder / "losses.csv", LossRow, self.loss_rows())
        write_rows(self.folder / "geometry.csv", GeometryRow, self.geometry_rows())
        write_rows(self.folder / "evaluation.csv", EvaluationRow, self.evaluation_rows())
        write_rows(self.folder / "iterates.csv", IterateRow, self.iterates.values())


def write_text(path: epath.Path, text: str) -> None:
    """Writes a file whole: it appears under its name complete or not at all.

    Of several processes the first one writes.
    """
    if jax.process_index() > 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.partial"
    temporary.write_text(text)
    temporary.replace(path)


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


def _read(path: epath.Path, kind: type) -> Sequence[Any]:
    if not path.exists():
        return []
    types: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(kind)}
    reader = csv.DictReader(io.StringIO(path.read_text()))
    return [kind(**{name: types[name](row[name]) for name in types}) for row in reader]


def _text(value: Any) -> str:
    # Nine significant digits give back every float32.
    return f"{value:.9g}" if isinstance(value, (float, np.floating)) else str(value)
