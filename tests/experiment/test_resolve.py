"""What the door of an experiment makes of a config."""

import dataclasses

import pytest

import hgeo.experiment.resolve as door
from hgeo.errors import InputError
from hgeo.experiment.resolve import resolve
from hgeo.experiment.work_folder import WorkFolder
from hgeo.workloads.registry import make_workload
from tests.experiments import run
from tests.trajectories import SWITCH, smoke


def test_what_is_resolved_does_not_follow_the_config():
    config = smoke(probe__steps=("50%", 6, 0))
    resolved = resolve(config)
    before = resolved.settings
    with config.unlocked():
        config.steps, config.adam.learning_rate, config.probe.steps = 99, 0.7, (1,)
    assert resolved.steps == before["steps"] == 6
    assert resolved.probe.steps == tuple(before["probe"]["steps"]) == (0, 3, 6)
    assert resolved.plans[1].arguments["learning_rate"] == before["adam"]["learning_rate"] != 0.7
    for change in (
        lambda: setattr(resolved, "steps", 7),
        lambda: setattr(resolved.probe, "steps", ()),
        lambda: resolved.plans[1].arguments.update(learning_rate=1.0),
    ):
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            change()
    resolved.settings["steps"] = 7
    assert resolved.settings == before


def test_losses_have_the_digits_that_records_have():
    resolved = resolve(smoke(same_loss__losses=(4.123456789012,)))
    assert resolved.same_loss.losses == (4.12345679,)


def test_probes_of_a_folder_without_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"probe_only=again probes saved checkpoints, but .* has"):
        run(smoke(probe_only="again"), tmp_path / "misspelt")
    assert not (tmp_path / "misspelt" / "probes").exists()


def test_data_are_read_once_and_only_where_no_folder_knows_their_number(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(door, "make_workload", lambda c: read.append(c) or make_workload(c))
    config = smoke(probe__steps=(0, "0.002 epochs"))
    resolved = resolve(config, WorkFolder(tmp_path))
    workload = resolved.read_workload()
    assert resolved.read_workload() is workload
    assert len(read) == 1
    assert resolved.num_examples == workload.num_examples
    epoch = workload.num_examples // config.batch_size
    assert resolved.probe.steps == tuple(sorted({0, round(0.002 * epoch)}))

    WorkFolder(tmp_path).take(resolved.settings, workload, ["float32"])
    again = resolve(config, WorkFolder(tmp_path))
    assert len(read) == 1
    assert (again.probe, again.settings) == (resolved.probe, resolved.settings)


def test_a_state_that_cannot_be_carried_is_refused_without_the_data(monkeypatch):
    monkeypatch.setattr(door, "make_workload", None)
    config = smoke(
        after=SWITCH | {"optimizer_state": "carried"}, optimizers=("sgdm", "after"), compare=()
    )
    with pytest.raises(InputError, match=r"after.* state of sgdm has no part that adam has"):
        resolve(config)


def test_losses_are_watched_where_they_are_compared():
    watching = smoke(same_loss__by="probe", same_loss__every=4, same_loss__losses=(3.0,))
    assert resolve(watching).same_loss.watched_steps == (0, 4)
    assert resolve(smoke(same_loss__by="probe")).same_loss.watched_steps == ()
    assert resolve(smoke(same_loss__losses=(3.0,))).same_loss.watched_steps == ()


@pytest.mark.parametrize(("by", "watched"), [("probe", (0, 3, 6)), ("training", ())])
def test_losses_are_watched_where_a_run_starts_at_one(by, watched):
    block = {"optimizer": "adam", "start_run": "sgdm", "start_loss": 3.0, "learning_rate": 1e-3}
    runs = {"after": block, "optimizers": ("sgdm", "after"), "compare": ()}
    resolved = resolve(smoke(**runs, same_loss__by=by, same_loss__every=3))
    assert resolved.same_loss.watched_steps == watched
