"""Same-loss iterates: where a trajectory first comes down to a given loss."""

import math

import numpy as np

from hgeo.records import RunRecords


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


def first_step_at(records: RunRecords, loss: float, window: int) -> tuple[int | None, float]:
    """The first step whose smoothed loss is at most `loss`, and that smoothed loss.

    Where there is none, `None` and the lowest smoothed loss (infinite without any).
    """
    steps, smooth = smoothed_losses(records, window)
    reached = np.flatnonzero(smooth <= loss)
    if reached.size:
        return int(steps[reached[0]]), float(smooth[reached[0]])
    return None, float(smooth.min()) if smooth.size else math.inf
