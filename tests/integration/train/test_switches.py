"""Runs that begin at another run's iterate: switches of the optimizer, and branches."""

import pytest

from hgeo.errors import InputError
from hgeo.training import loop
from tests.experiments import records, rows, run
from tests.interruptions import interrupted
from tests.trajectories import SWITCH, losses_of, same, smoke, stored


def test_a_switch_to_the_same_optimizer_with_its_state_changes_nothing(tmp_path):
    same_again = {"optimizer": "sgdm", "start_run": "sgdm", "start_step": 3}
    same_again |= {"learning_rate": 0.2, "momentum": 0.9, "optimizer_state": "carried"}
    config = smoke(again=same_again, optimizers=("sgdm", "again"), compare=())
    run(config, tmp_path)
    whole, again = losses_of(tmp_path, "sgdm"), losses_of(tmp_path, "again")
    assert sorted(again) == [3, 4, 5]
    assert {step: whole[step] for step in again} == again
    same(stored(tmp_path, "again", 6)["variables"], stored(tmp_path, "sgdm", 6)["variables"])


def test_a_switch_keeps_its_place_in_the_schedule_of_the_learning_rate(tmp_path):
    same_again = {"optimizer": "sgd", "start_run": "sgd", "start_step": 3, "learning_rate": 0.2}
    config = smoke(
        sgd={"learning_rate": 0.2},
        again=same_again,
        optimizers=("sgd", "again"),
        compare=(),
        learning_rate_schedule__kind="linear",
    )
    run(config, tmp_path)
    whole, again = losses_of(tmp_path, "sgd"), losses_of(tmp_path, "again")
    assert {step: whole[step] for step in again} == again
    same(stored(tmp_path, "again", 6)["variables"], stored(tmp_path, "sgd", 6)["variables"])


def test_a_switch_begins_at_the_others_iterate_with_a_fresh_state(tmp_path):
    config = smoke(adam_after=SWITCH, optimizers=("sgdm", "adam_after"), compare=())
    finite, _ = run(config, tmp_path)
    assert finite
    assert losses_of(tmp_path, "adam_after")[4] == losses_of(tmp_path, "sgdm")[4]
    assert losses_of(tmp_path, "adam_after")[5] != losses_of(tmp_path, "sgdm")[5]
    probed = {r["step"] for r in rows(tmp_path, "geometry") if r["optimizer"] == "adam_after"}
    assert probed == {"6"}, "steps before the switch are the other run's"
    before = records(tmp_path)
    run(config, tmp_path)
    assert records(tmp_path) == before


@pytest.mark.parametrize(
    "call",
    [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(8, marks=pytest.mark.slow)],
)
def test_an_interrupted_switch_ends_with_the_same_numbers(tmp_path, call):
    config = smoke(adam_after=SWITCH, optimizers=("sgdm", "adam_after"), compare=(), repeats=2)
    run(config, tmp_path / "calm")
    with interrupted(loop, "_update_until", call):
        run(config, tmp_path / "stopped")
    run(config, tmp_path / "stopped")
    assert records(tmp_path / "stopped") == records(tmp_path / "calm")


def test_branches_at_a_loss_and_says_where_there_is_none(tmp_path):
    blocks = {
        "near": {"optimizer": "sgdm", "start_run": "sgdm", "start_loss": 4.5, "learning_rate": 0.1},
        "never": {
            "optimizer": "adam",
            "start_run": "sgdm",
            "start_loss": 0.1,
            "learning_rate": 0.1,
        },
        "nor": {"optimizer": "adam", "start_run": "never", "start_step": 5, "learning_rate": 0.1},
    }
    names = ("sgdm", *blocks)
    config = smoke(**blocks, optimizers=names, compare=(), same_loss__window=1)
    finite, said = run(config, tmp_path)
    assert finite
    curve = losses_of(tmp_path, "sgdm")
    start = min(step for step, loss in curve.items() if loss <= 4.5)
    assert 0 < start < 5
    assert min(losses_of(tmp_path, "near")) == start
    assert losses_of(tmp_path, "near")[start] == curve[start]
    assert "never, repeat 0: not started, since sgdm never reached that start" in said
    assert "nor, repeat 0: not started, since never was not" in said
    steps = {r["optimizer"]: int(r["step"]) for r in rows(tmp_path, "iterates")}
    assert steps == {"near": start, "never": -1, "nor": -1}
    before = records(tmp_path)
    run(config, tmp_path)
    assert records(tmp_path) == before


def test_branches_at_a_loss_of_the_probe_batch(tmp_path):
    branch = {"optimizer": "adam", "start_run": "sgdm", "start_loss": 4.55, "learning_rate": 0.1}
    config = smoke(
        branch=branch,
        optimizers=("sgdm", "branch"),
        compare=(),
        same_loss__by="probe",
        same_loss__every=2,
    )
    run(config, tmp_path)
    watched = {
        int(r["step"]): float(r["loss"])
        for r in rows(tmp_path, "probe_losses")
        if r["optimizer"] == "sgdm"
    }
    start = min(step for step, loss in watched.items() if loss <= 4.55)
    assert min(losses_of(tmp_path, "branch")) == start > 0


def test_nothing_to_carry(tmp_path):
    block = SWITCH | {"optimizer_state": "carried"}
    with pytest.raises(InputError, match=r"state of sgdm has no part that adam has"):
        run(smoke(adam_after=block, optimizers=("sgdm", "adam_after"), compare=()), tmp_path)
