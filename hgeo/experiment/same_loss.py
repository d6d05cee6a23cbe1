"""Same-loss iterates: where a trajectory first comes down to a given loss.

The loss is the smoothed training loss, known at every step, or that of the probe's batch, known
at every watched step.
"""

import math

import numpy as np

from hgeo.experiment.resolved import Resolved, SameLossSettings
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import IterateRow, RunRecords


def smoothed_losses(records: RunRecords, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the mean training loss of the `window` steps around each (fewer at the ends).

    Losses that are not finite are left out, with the steps behind the first of them.
    """
    rows = records.loss_rows()
    end = next((n for n, row in enumerate(rows) if not math.isfinite(row.loss)), len(rows))
    steps = np.array([row.step for row in rows[:end]], int)
    losses = np.array([row.loss for row in rows[:end]], float)
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    place = np.arange(len(losses))
    first = np.maximum(place - window // 2, 0)
    last = np.minimum(place + (window + 1) // 2, len(losses))
    return steps, (sums[last] - sums[first]) / np.maximum(last - first, 1)


def targets(resolved: Resolved, folder: WorkFolder) -> tuple[float, ...]:
    """The losses that are looked for, from the highest: given ones, or those of a reference run.

    Those are the losses of the probe's batch at the probe's steps in that run's first repeat, as
    its file has them now; none before it has got there.
    """
    settings = resolved.same_loss
    if not settings.reference:
        return settings.losses
    geometry = RunRecords(folder.run_folder(settings.reference, 0)).geometry
    steps = [step for step in resolved.probe.steps if geometry.get(step)]
    return tuple(sorted({geometry[step][0].loss for step in steps}, reverse=True))


def find_iterate(
    settings: SameLossSettings, records: RunRecords, loss: float
) -> tuple[int | None, float]:
    """The first step at a loss, by the kind of loss that the settings name, and its own loss.

    Where there is none, `None` and the lowest loss (infinite without any).
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
    """What is recorded, for a run and repeat, of a search for a loss in some records."""
    step, loss = find_iterate(settings, records, target)
    return IterateRow(name, repeat, purpose, target, -1 if step is None else step, loss)


def first_step_at(records: RunRecords, loss: float, window: int) -> tuple[int | None, float]:
    """The first step whose smoothed training loss is at most `loss`, and that smoothed loss.

    Where there is none, `None` and the lowest smoothed loss (infinite without any).
    """
    steps, smooth = smoothed_losses(records, window)
    reached = np.flatnonzero(smooth <= loss)
    if reached.size:
        return int(steps[reached[0]]), float(smooth[reached[0]])
    return None, float(smooth.min()) if smooth.size else math.inf
