"""Same-loss iterates: where a trajectory first comes down to a given loss.

The loss is the smoothed training loss, known at every step, or that of the probe's batch, known
every `same_loss.every` steps (`same_loss.by`).
"""

import math

import numpy as np

from hgeo.config import Config
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import RunRecords


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


def targets(config: Config, folder: WorkFolder) -> tuple[float, ...]:
    """The losses that are looked for, from the highest: `losses`, or those of the run `of`.

    Those are the losses of the probe's batch at `probe.steps` in that run's first repeat; none
    before it has got there.
    """
    if not config.same_loss.of:
        return tuple(config.same_loss.losses)
    geometry = RunRecords(folder.run_folder(config.same_loss.of, 0)).geometry
    steps = [step for step in config.probe.steps if geometry.get(step)]
    return tuple(sorted({geometry[step][0].loss for step in steps}, reverse=True))


def watched_steps(config: Config) -> tuple[int, ...]:
    """The steps at which the loss of the probe's batch is looked at."""
    wanted = config.same_loss.losses or config.same_loss.of
    if config.same_loss.by != "probe" or not wanted:
        return ()
    return tuple(range(0, config.steps + 1, config.same_loss.every))


def find_iterate(config: Config, records: RunRecords, loss: float) -> tuple[int | None, float]:
    """The first step at a loss, by the kind of loss that the config names, and its own loss.

    Where there is none, `None` and the lowest loss (infinite without any).
    """
    if config.same_loss.by == "training":
        return first_step_at(records, loss, config.same_loss.window)
    found = [(row.step, row.loss) for row in records.probe_loss_rows()]
    reached = [(step, own) for step, own in found if own <= loss]
    return reached[0] if reached else (None, min((own for _, own in found), default=math.inf))


def first_step_at(records: RunRecords, loss: float, window: int) -> tuple[int | None, float]:
    """The first step whose smoothed training loss is at most `loss`, and that smoothed loss.

    Where there is none, `None` and the lowest smoothed loss (infinite without any).
    """
    steps, smooth = smoothed_losses(records, window)
    reached = np.flatnonzero(smooth <= loss)
    if reached.size:
        return int(steps[reached[0]]), float(smooth[reached[0]])
    return None, float(smooth.min()) if smooth.size else math.inf
