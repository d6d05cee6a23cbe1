"""What is left to do of a run, from hand-made records."""

import dataclasses

import pytest

from hgeo.records.run_records import ARCHIVED, GeometryRow, LossRow, RunRecords
from hgeo.training.remaining import Remaining, events_left, trusted_steps, what_is_left
from hgeo.training.timeline import Timeline

TIMELINE = Timeline(
    steps=6,
    measured_steps=(0, 3, 6),
    checkpoint_every=2,
    batch_size=1,
    num_examples=10,
    seed=0,
    repeat=0,
)
DUE = {"probe": (0, 3, 6), "evaluation": (6,)}


def recorded(folder, losses=range(6), probes=(0, 3, 6), evaluations=(6,), diverged=None):
    records = RunRecords(folder)
    for step in losses:
        loss = float("nan") if step == diverged else 2.0
        records.losses[step] = LossRow("adam", 0, step, 0.0, loss)
    row = GeometryRow("adam", 0, 0, 0.0, 2.0, 1, "kernel", "r_med", 1.0)
    records.geometry |= {step: [row] for step in probes}
    records.evaluation |= {step: [] for step in evaluations}
    return records


def left(records, saved, keep_all=True, timeline=TIMELINE, due=DUE):
    return what_is_left(timeline, due, records, saved, keep_all)


def test_of_a_new_run_all_is_left(tmp_path):
    found = left(recorded(tmp_path, (), (), ()), ())
    assert (found.updates, found.measurements) == (6, {"probe": 3, "evaluation": 1})
    assert found.counts == {"step": 6, "probe": 3, "evaluation": 1}
    assert not found.is_nothing
    assert not found.is_trained


def test_of_a_finished_run_nothing_is_left_though_checkpoints_lack(tmp_path):
    records = recorded(tmp_path)
    assert left(records, (0, 2, 3, 4, 6)) == Remaining(0, left(records, (6,)).measurements)
    found = left(records, (6,))
    assert found.is_nothing, "nothing reads the earlier checkpoints any more"
    assert found.updates == 4, "training would bring 2, 3 and 4 back"
    assert left(records, (0, 2, 3, 4)).updates == 2
    assert not left(records, (0, 2, 3, 4)).is_nothing, "the last state is not saved"


@pytest.mark.parametrize(
    ("lacking", "counts"),
    [
        ({"probes": (0, 6)}, {"probe": 1}),
        ({"evaluations": ()}, {"evaluation": 1}),
        ({"losses": (0, 1, 2, 4, 5)}, {"step": 3}),
    ],
)
def test_what_the_records_lack_is_left(tmp_path, lacking, counts):
    found = left(recorded(tmp_path, **lacking), (0, 2, 3, 4, 6))
    assert +found.counts == counts
    assert not found.is_nothing


def test_a_checkpoint_behind_a_lost_loss_is_not_trusted(tmp_path):
    records = recorded(tmp_path, losses=(0, 1, 2, 4, 5))
    assert trusted_steps(TIMELINE, records, (0, 2, 3, 4, 6)) == {0, 2, 3}


def test_a_run_that_diverged_ends_there(tmp_path):
    records = recorded(tmp_path, losses=range(5), probes=(0, 3), evaluations=(), diverged=4)
    assert left(records, (0, 2, 3)).is_nothing
    assert left(recorded(tmp_path, range(5), (0,), (), 4), (0, 2, 3)).counts["probe"] == 1


def test_what_lies_before_the_start_is_another_runs(tmp_path):
    branch = dataclasses.replace(TIMELINE, start=4)
    records = recorded(tmp_path, losses=(4, 5), probes=(6,))
    assert left(records, (4, 6), timeline=branch).is_nothing
    assert left(recorded(tmp_path, (), (), ()), (), timeline=branch).updates == 2


def test_searches_are_left_too():
    assert Remaining().is_nothing
    assert not Remaining(searches=1).is_nothing


def test_regular_checkpoints_that_were_dropped_are_over(tmp_path):
    records = recorded(tmp_path)
    assert events_left(TIMELINE, DUE, records, {0, 3, 6}, keep_all=False) == [0, 3, 6]
    assert events_left(TIMELINE, DUE, records, {0, 3, 6}, keep_all=True) == [0, 2, 3, 4, 6]
    due = {"loss": (2,)}
    assert events_left(TIMELINE, due, records, {0, 3, 6}, keep_all=False) == [0, 2, 3, 6]


def test_of_an_archived_run_nothing_is_left_without_checkpoints(tmp_path):
    (tmp_path / ARCHIVED).touch()
    whole = recorded(tmp_path)
    assert left(whole, ()).is_nothing
    assert left(whole, ()).updates == 0
    assert events_left(TIMELINE, DUE, whole, set(), True) == []


@pytest.mark.parametrize("lacking", [{"probes": (0, 6)}, {"evaluations": ()}, {"losses": range(5)}])
def test_an_archived_run_that_lacks_records_is_trained_again(tmp_path, lacking):
    (tmp_path / ARCHIVED).touch()
    found = left(recorded(tmp_path, **lacking), ())
    assert not found.is_nothing
    assert found.updates == 6


def test_an_archived_run_that_diverged_is_over(tmp_path):
    (tmp_path / ARCHIVED).touch()
    records = recorded(tmp_path, losses=range(4), probes=(0, 3), evaluations=(), diverged=3)
    assert left(records, ()).is_nothing
