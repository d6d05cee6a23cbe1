"""Same-loss iterates: where a trajectory first reaches a given loss.

The loss is the smoothed training loss, known at every step, or that of the probe's batch, known
at every watched step.
"""

import math

import numpy as np

from hgeo.experiment.resolved import Resolved, SameLossSettings
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import IterateRow, RunRecords, as_recorded


def smoothed_losses(records: RunRecords, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the mean training loss of the `window` steps around each (fewer at the ends).

    The first loss that is not finite and all later steps are left out.
    """
    rows = records.loss_rows()
    end = next((n for n, row in enumerate(rows) if not math.isfinite(row.loss)), len(rows))
    steps = np.array([row.step for row in rows[:end]], int)
    losses = np.array([row.loss for row in rows[:end]], float)
    place = np.arange(len(losses))
    first = np.maximum(place - window // 2, 0)
    last = np.minimum(place + (window + 1) // 2, len(losses))
    # Each window has its own sum: one spike would leave no digits in differences of running sums.
    ends = np.stack([first, last], axis=1).ravel()
    return steps, np.add.reduceat(np.append(losses, 0.0), ends)[::2] / (last - first)


def targets(
    resolved: Resolved, folder: WorkFolder, reference: RunRecords | None = None
) -> tuple[float, ...]:
    """The losses to find, from the highest: the given ones, or those of a reference run.

    A reference run gives the losses of the probe's batch at the probe's steps of its first repeat,
    as far as its records have them.

    Args:
      resolved: the experiment.
      folder: its folder.
      reference: the records of the reference run's first repeat where this process has them open;
        `None` reads them. Another process may still be writing the file.
    """
    settings = resolved.same_loss
    if not settings.reference:
        return settings.losses
    if reference is None:
        reference = RunRecords(folder.run_folder(settings.reference, 0))
    rows = [reference.geometry.get(step) for step in resolved.probe.steps]
    return tuple(sorted({as_recorded(row[0].loss) for row in rows if row}, reverse=True))


def find_iterate(
    settings: SameLossSettings, records: RunRecords, loss: float
) -> tuple[int | None, float]:
    """The first step whose loss, of the settings' kind, is at most `loss`; and its loss.

    Where no step has it, `None` and the lowest loss (infinity without any loss).
    """
    if settings.by == "training":
        return first_step_at(records, loss, settings.window)
    found = [(row.step, row.loss) for row in records.probe_loss_rows()]
    reached = [(step, watched) for step, watched in found if watched <= loss]
    return reached[0] if reached else (None, min((value for _, value in found), default=math.inf))


def iterate_row(
    settings: SameLossSettings,
    records: RunRecords,
    purpose: str,
    target: float,
    name: str,
    repeat: int,
) -> IterateRow:
    """The row that records a search for a loss in a run's records."""
    step, loss = find_iterate(settings, records, target)
    return IterateRow(name, repeat, purpose, target, -1 if step is None else step, loss)


def first_step_at(records: RunRecords, loss: float, window: int) -> tuple[int | None, float]:
    """The first step whose smoothed training loss is at most `loss`, and that smoothed loss.

    Where no step has it, `None` and the lowest smoothed loss (infinity without any loss).
    """
    steps, smooth = smoothed_losses(records, window)
    reached = np.flatnonzero(smooth <= loss)
    if reached.size:
        return int(steps[reached[0]]), float(smooth[reached[0]])
    return None, float(smooth.min()) if smooth.size else math.inf
