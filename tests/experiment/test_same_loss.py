"""The first step at a loss, on the logged trajectory."""

import math

import numpy as np
import pytest

from hgeo.experiment.same_loss import first_step_at, smoothed_losses
from hgeo.records.run_records import IterateRow, LossRow, RunRecords


def test_smoothing(tmp_path):
    run_records = RunRecords(tmp_path)
    for step, loss in enumerate([6.0, 4.0, 5.0, 1.0, 3.0, math.nan, 0.0]):
        run_records.losses[step] = LossRow("adam", 0, step, 0.0, loss)
    steps, smooth = smoothed_losses(run_records, 3)
    np.testing.assert_array_equal(steps, range(5))
    np.testing.assert_allclose(smooth, [5, 5, 10 / 3, 3, 2])
    assert first_step_at(run_records, 3.0, 3) == (3, 3.0)
    assert first_step_at(run_records, 1.0, 1) == (3, 1.0)
    assert first_step_at(run_records, 1.9, 3) == (None, 2.0)
    assert first_step_at(RunRecords(tmp_path / "none"), 1.9, 3) == (None, math.inf)


@pytest.mark.parametrize("window", [1, 2, 5, 40])
def test_each_window_is_averaged_on_its_own(tmp_path, window):
    losses = np.random.default_rng(0).uniform(1, 9, size=12)
    losses[4] = 1e18
    run_records = RunRecords(tmp_path)
    for step, loss in enumerate(losses):
        run_records.losses[step] = LossRow("adam", 0, step, 0.0, loss)
    _, smooth = smoothed_losses(run_records, window)
    windows = [losses[max(n - window // 2, 0) : n + (window + 1) // 2] for n in range(12)]
    np.testing.assert_allclose(smooth, [w.mean() for w in windows], rtol=1e-12)


def test_iterate_rows_survive(tmp_path):
    run_records = RunRecords(tmp_path)
    row = IterateRow("adam", 1, "same_loss", 2.5, 7, 2.25)
    run_records.iterates["same_loss", 2.5] = row
    run_records.write()
    assert RunRecords(tmp_path).iterates == {("same_loss", 2.5): row}
