"""The iterate of another run at which a run starts, read from the other run's records."""

import dataclasses
import math
import types

import pytest

from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import SameLossSettings
from hgeo.experiment.start_iterate import find_start, known_starts
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import IterateRow, LossRow, RunRecords

SETTINGS = SameLossSettings((), "", "training", 1, ())


@pytest.fixture
def parent(tmp_path):
    """A run from step 4 on, which diverges at step 7."""
    records = RunRecords(tmp_path)
    for step, loss in enumerate([3.0, 2.0, 1.0, math.inf], start=4):
        records.losses[step] = LossRow("parent", 0, step, 0.0, loss)
    return records


def plan(**start):
    return RunPlan("child", "adam", types.MappingProxyType({}), start_run="parent", **start)


def test_a_step_of_the_other_run(parent):
    row, line = find_start(plan(start_step=5), 0, parent, SETTINGS)
    assert row == IterateRow("child", 0, "start", 5.0, 5, 2.0)
    assert line == ""


@pytest.mark.parametrize("step", [3, 7, 8], ids=["before it starts", "diverged", "never trained"])
def test_no_such_step(parent, step):
    row, line = find_start(plan(start_step=step), 0, parent, SETTINGS)
    assert row.step == -1
    assert f"child, repeat 0: not started, since parent has no step {step}: it starts" in line


def test_a_loss_of_the_other_run(parent):
    row, line = find_start(plan(start_loss=2.5), 0, parent, SETTINGS)
    assert (row.step, row.loss, line) == (5, 2.0, "")
    row, line = find_start(plan(start_loss=0.5), 0, parent, SETTINGS)
    assert row.step == -1
    assert line.endswith("since parent never reached that start (the lowest loss is 1)")


def test_starts_of_other_runs_are_known_from_their_records(tmp_path):
    folder, names = WorkFolder(tmp_path), ("never", "begun", "new", "of another")
    plans = [RunPlan("parent", "sgdm", types.MappingProxyType({}))]
    plans += [dataclasses.replace(plan(start_loss=2.5), name=name) for name in names]
    plans[-1] = dataclasses.replace(plans[-1], start_run="begun")
    for name, step in zip(("never", "begun", "of another"), (-1, 5, 6), strict=True):
        records = RunRecords(folder.run_folder(name, 0))
        records.iterates["start", 2.5] = IterateRow(name, 0, "start", 2.5, step, 2.0)
        records.write()
    experiment = types.SimpleNamespace(plans=plans)
    assert known_starts(experiment, folder, plans[0], 0) == [5]
    assert known_starts(experiment, folder, plans[0], 1) == []


def test_the_other_run_was_not_started():
    row, line = find_start(plan(start_step=5), 0, None, SETTINGS)
    assert row.step == -1
    assert line == "child, repeat 0: not started, since parent was not"
