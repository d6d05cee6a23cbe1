"""When a planned run trains, and which checkpoints it keeps."""

from hgeo.experiment.resolve import resolve
from hgeo.experiment.run_timeline import run_timeline
from hgeo.records.run_records import IterateRow, RunRecords
from tests.trajectories import SWITCH, smoke


def test_checkpoints_stay_where_something_is_measured_or_another_run_starts(tmp_path):
    records = RunRecords(tmp_path)
    for target, step in ((5.0, 2), (0.1, -1)):
        row = IterateRow("sgdm", 0, "same_loss", target, step, target)
        records.iterates["same_loss", target] = row
    records.iterates["start", 4.0] = IterateRow("sgdm", 0, "start", 4.0, 5, 4.0)
    config = smoke(b=SWITCH, optimizers=("sgdm", "b"), compare=(), probe__steps=(0, 6))
    resolved = resolve(config)
    assert run_timeline(resolved, resolved.plans[0], 0).kept(False) == {0, 4, 6}
    timeline = run_timeline(resolved, resolved.plans[0], 0, 0, records.same_loss_steps)
    assert timeline.kept(False) == {0, 2, 4, 6}
