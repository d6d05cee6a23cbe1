"""The first step at a loss, on the logged trajectory."""

import math

import numpy as np
import pytest

from hgeo.experiment.resolve import resolve
from hgeo.experiment.same_loss import first_step_at, smoothed_losses, targets
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import GeometryRow, IterateRow, LossRow, RunRecords
from hgeo.training.progress import Progress
from tests.experiments import run
from tests.trajectories import least, smoke


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


def test_losses_of_an_open_run_are_those_that_its_file_will_have(tmp_path):
    """A process that does not write must not depend on when the file appears."""
    config = smoke(same_loss__by="probe", same_loss__of="sgdm", probe__steps=(0, 6))
    resolved, folder = resolve(config), WorkFolder(tmp_path)
    records = RunRecords(folder.run_folder("sgdm", 0))
    for step, loss in ((0, 4.0 + 1 / 3e7), (6, 2.0 / 3)):
        row = GeometryRow("sgdm", 0, step, 0.0, loss, 1, "a", "r_med", 2.0)
        records.geometry[step] = [row]
    assert targets(resolved, folder) == ()
    before = targets(resolved, folder, records)
    records.write()
    assert before == targets(resolved, folder) == (4.00000003, 0.666666667)


def test_the_time_left_counts_the_probes_at_losses_not_yet_searched(tmp_path, monkeypatch):
    expected = []
    monkeypatch.setattr(Progress, "expect", lambda _, missing: expected.append(dict(missing)))
    config = {"probe__steps": (6,), "repeats": 2, "probe__num_coordinates": 1}
    run(least(**config, same_loss__losses=(9.0, 0.1)), tmp_path)
    probes = 1 + 2
    assert [missing["probe"] for missing in expected] == [2 * probes, probes]
