"""Runs that switch, branch, are compared at equal loss, tuned, shared out, and asked to stop."""

import csv
import io
import json
import math
import os
import shutil
import signal
import threading

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from rich.console import Console

from hgeo import train
from hgeo.errors import InputError
from hgeo.locks import RunLock
from hgeo.preemption import Preempted
from hgeo.records import IterateRow, LossRow, RunRecords
from hgeo.same_loss import first_step_at, smoothed_losses
from hgeo.tune import tune
from hgeo.tuning import with_tuned_rates
from tests.experiments import load_config, records, run

SWITCH = {
    "optimizer": "adam",
    "start_run": "sgdm",
    "start_step": 4,
    "learning_rate": 1e-3,
}


def smoke(**changes):
    config = load_config("quickstart", "smoke", probe__layers=(4,))
    blocks = {k: changes.pop(k) for k in list(changes) if isinstance(changes[k], dict)}
    with config.unlocked():
        for name, block in blocks.items():
            config[name] = block
    for key, value in changes.items():
        *groups, last = key.split("__")
        part = config
        for group in groups:
            part = part[group]
        with part.ignore_type():
            part[last] = value
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(smoke(), folder)
    return folder


def rows(folder, name):
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def stored(folder, name, step):
    manager = ocp.CheckpointManager((folder / f"runs/{name}/repeat_0/checkpoints").absolute())
    state = manager.restore(step, args=ocp.args.StandardRestore())
    manager.close()
    return state


def losses_of(folder, name):
    return {
        int(r["step"]): float(r["loss"]) for r in rows(folder, "losses") if r["optimizer"] == name
    }


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


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
def test_an_interrupted_switch_ends_with_the_same_numbers(tmp_path, monkeypatch, call):
    config = smoke(adam_after=SWITCH, optimizers=("sgdm", "adam_after"), compare=(), repeats=2)
    run(config, tmp_path / "calm")
    original, calls = train._train, []

    def stopping(*args):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_train", stopping)
        with pytest.raises(KeyboardInterrupt):
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
    assert "never, repeat 0: not started, since sgdm never came to its start there" in said
    assert "nor, repeat 0: not started, since never was not" in said
    steps = {r["optimizer"]: int(r["step"]) for r in rows(tmp_path, "iterates")}
    assert steps == {"near": start, "never": -1, "nor": -1}
    before = records(tmp_path)
    run(config, tmp_path)
    assert records(tmp_path) == before


def test_equal_losses_are_found_and_probed_from_a_replay(tmp_path):
    config = smoke(same_loss__losses=(4.5, 0.5), same_loss__window=1, probe__steps=(0, 6))
    _, said = run(config, tmp_path)
    for name in ("sgdm", "adam"):
        curve = losses_of(tmp_path, name)
        step = min(s for s, loss in curve.items() if loss <= 4.5)
        probed = {int(r["step"]) for r in rows(tmp_path, "geometry") if r["optimizer"] == name}
        assert probed == {0, step, 6}
    assert "loss 0.5 was never reached" in said
    assert "at equal training loss" in (tmp_path / "table.md").read_text()

    later = smoke(probe__steps=(0, 6), same_loss__window=1)
    run(later, tmp_path / "later")
    run(config, tmp_path / "later")
    for ours, theirs in zip(
        rows(tmp_path / "later", "geometry"), rows(tmp_path, "geometry"), strict=True
    ):
        assert ours == theirs


@pytest.mark.parametrize("keep", [pytest.param("all", marks=pytest.mark.slow), "measured"])
def test_equal_losses_of_the_probe_batch(tmp_path, keep):
    config = smoke(
        same_loss__losses=(4.55, 0.5),
        same_loss__by="probe",
        same_loss__every=2,
        probe__steps=(0, 6),
        keep_checkpoints=keep,
    )
    _, said = run(config, tmp_path)
    for name in ("sgdm", "adam"):
        watched = {
            int(r["step"]): float(r["loss"])
            for r in rows(tmp_path, "probe_losses")
            if r["optimizer"] == name
        }
        assert list(watched) == [0, 2, 4, 6]
        step = min(s for s, loss in watched.items() if loss <= 4.55)
        probed = {
            int(r["step"]): float(r["loss"])
            for r in rows(tmp_path, "geometry")
            if r["optimizer"] == name
        }
        assert set(probed) == {0, step, 6}
        assert {s: watched[s] for s in probed} == probed
        kept = {
            int(p.name) for p in (tmp_path / f"runs/{name}/repeat_0/checkpoints").glob("[0-9]*")
        }
        assert kept <= {0, step, 6}, "where nothing but the loss was looked at nothing is kept"
    assert "loss 0.5 was never reached" in said
    before = records(tmp_path)
    run(config, tmp_path)
    assert records(tmp_path) == before


def test_equal_losses_to_those_of_another_run(tmp_path):
    config = smoke(same_loss__of="sgdm", same_loss__by="probe", same_loss__every=1)
    run(config, tmp_path)
    targets = {
        float(r["loss"])
        for r in rows(tmp_path, "geometry")
        if r["optimizer"] == "sgdm" and int(r["step"]) in config.probe.steps
    }
    assert len(targets) == len(config.probe.steps)
    looked_for = [r for r in rows(tmp_path, "iterates") if r["optimizer"] == "adam"]
    assert {float(r["target"]) for r in looked_for} == targets
    for row in looked_for:
        assert int(row["step"]) < 0 or float(row["loss"]) <= float(row["target"])
    assert "at equal training loss" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_an_interrupted_watch_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    config = smoke(
        same_loss__losses=(4.55,),
        same_loss__by="probe",
        same_loss__every=1,
        keep_checkpoints="measured",
        optimizers=("adam",),
        compare=(),
    )
    run(config, tmp_path / "calm")
    original, trained = train._train, []

    def stopping(runs, states, stop, progress):
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append((int(states[0].step), stop))
        return original(runs, states, stop, progress)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_train", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "stopped")
        trained.clear()
        patch.setattr(
            train, "_train", lambda *a: trained.append(a[1][0].step.item()) or original(*a)
        )
        run(config, tmp_path / "stopped")
    assert trained[0] == 4, "it goes on where it stopped, though earlier checkpoints were dropped"
    assert records(tmp_path / "stopped") == records(tmp_path / "calm")


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


def test_shares_fill_one_folder(tmp_path):
    whole = smoke(repeats=2, adam_after=SWITCH, optimizers=("sgdm", "adam", "adam_after"))
    run(whole, tmp_path / "whole")
    for share in ("2/3", "1/3", "3/3"):
        config = smoke(repeats=2, adam_after=SWITCH, optimizers=whole.optimizers, share=share)
        _, said = run(config, tmp_path / "shared")
        assert ("no report yet; other shares still have to do" in said) == (share != "3/3")
    assert records(tmp_path / "shared") == records(tmp_path / "whole")


def test_a_second_process_is_refused_while_the_first_lives(tmp_path):
    config = smoke(optimizers=("adam",), compare=())
    lock = RunLock(tmp_path / "runs/adam/repeat_0")
    with pytest.raises(InputError, match=rf"being worked on by process {os.getpid()} on "):
        run(config, tmp_path)
    lock.release()
    finite, _ = run(config, tmp_path)
    assert finite


def test_sigterm_saves_and_the_next_start_goes_on(tmp_path, monkeypatch):
    config = smoke()
    run(config, tmp_path / "calm")
    original, calls = train._train, []

    def terminated(*args):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    assert threading.current_thread() is threading.main_thread()
    with monkeypatch.context() as patch:
        patch.setattr(train, "_train", terminated)
        with pytest.raises(Preempted):
            run(config, tmp_path / "stopped")
    saved = {
        int(p.name) for p in (tmp_path / "stopped/runs/sgdm/repeat_0/checkpoints").glob("[0-9]*")
    }
    assert saved == {0, 1}, "it saved at the next update, which no event asks for"
    run(config, tmp_path / "stopped")
    assert records(tmp_path / "stopped") == records(tmp_path / "calm")


@pytest.mark.slow
def test_only_measured_checkpoints_are_kept(tmp_path):
    config = smoke(checkpoint_every=1, keep_checkpoints="measured")
    run(config, tmp_path)
    kept = {int(p.name) for p in (tmp_path / "runs/adam/repeat_0/checkpoints").glob("[0-9]*")}
    assert kept == {0, 3, 6}
    run(smoke(checkpoint_every=1), tmp_path / "all")
    kept = {int(p.name) for p in (tmp_path / "all/runs/adam/repeat_0/checkpoints").glob("[0-9]*")}
    assert kept == set(range(7))
    assert records(tmp_path) == records(tmp_path / "all")


def test_tuning_finds_the_best_rate_and_a_config_takes_it(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    with jax.numpy_dtype_promotion("standard"):
        tune(smoke(), "sgdm", [0.01, 0.2, 1e30], 0.2, tmp_path, console)
    result = json.loads((tmp_path / "tuning.json").read_text())
    assert result["optimizer"] == "sgdm"
    curve = {point["learning_rate"]: point["loss"] for point in result["curve"]}
    assert curve[1e30] is None
    assert result["best"] == min((0.01, 0.2), key=curve.get)
    assert "diverged" in console.file.getvalue()
    assert (tmp_path / "figures/tuning.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert "final training loss against learning rate" in page
    last = [r for r in rows(tmp_path, "losses") if r["optimizer"] == "sgdm_0_2"][-1:]
    np.testing.assert_allclose(curve[0.2], float(last[0]["loss"]), rtol=1e-6)

    config = smoke(sgdm__learning_rate_from=str(tmp_path / "tuning.json"))
    assert with_tuned_rates(config).sgdm.learning_rate == result["best"]
    assert with_tuned_rates(config).adam.learning_rate == config.adam.learning_rate
    with pytest.raises(InputError, match=r"adam\.learning_rate_from=.* is the tuning of 'sgdm'"):
        run(smoke(adam__learning_rate_from=str(tmp_path / "tuning.json")), tmp_path / "work")


def test_repeats_give_a_standard_deviation(tmp_path):
    run(smoke(repeats=2), tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "(" in table.split("block0/linear2")[1].splitlines()[0]


BAD = [
    ({"adam_after": SWITCH | {"start_run": "adam"}}, r"start_run must be one of the runs before"),
    ({"adam_after": SWITCH | {"start_step": 6}}, r"start_step must lie between 0 and steps=6"),
    ({"adam_after": SWITCH | {"start_loss": 3.0}}, r"must give one of start_step and start_loss"),
    ({"adam_after": SWITCH | {"optimizer_state": "kept"}}, r"optimizer_state must be one of"),
    ({"adam_after": SWITCH | {"optimizer": "adamm"}}, r"unknown optimizer 'adamm'"),
    ({"adam_after": SWITCH | {"beta": 1}}, r"config\.adam_after has \['beta'\], but takes only"),
    ({"adam_after": SWITCH, "share": "3/2"}, r"share must be 'i/n' with i from 1 to n"),
    ({"adam_after": SWITCH, "share": "half"}, r"share must be 'i/n'.*not 'half'"),
    ({"adam_after": SWITCH, "keep_checkpoints": "few"}, r"keep_checkpoints must be one of"),
    ({"adam_after": SWITCH, "same_loss__window": 0}, r"window must be .* at least 1, not 0"),
    ({"adam_after": SWITCH, "same_loss__every": 0}, r"every must be .* at least 1, not 0"),
    ({"adam_after": SWITCH, "same_loss__by": "luck"}, r"by must be one of .* not 'luck'"),
    ({"adam_after": SWITCH, "same_loss__of": "adam"}, r"of must be one of .* not 'adam'"),
    ({"adam_after": SWITCH, "same_loss__of": "adam_after"}, r"of='adam_after' must be the first"),
    (
        {"adam_after": SWITCH, "same_loss__of": "sgdm", "same_loss__losses": (1.0,)},
        r"losses=\(1.0,\) and same_loss.of='sgdm': give one",
    ),
    ({"adam_after": SWITCH, "sgdm__learning_rate_from": "/no"}, r"is not a tuning result"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda value: str(value)[-60:])
def test_bad_plans(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run(smoke(**changes, optimizers=("sgdm", "adam_after"), compare=()), tmp_path)


def test_nothing_to_carry(tmp_path):
    block = SWITCH | {"optimizer_state": "carried"}
    with pytest.raises(InputError, match=r"state of sgdm has no part that adam has"):
        run(smoke(adam_after=block, optimizers=("sgdm", "adam_after"), compare=()), tmp_path)


@pytest.mark.parametrize("rates", [[0.1], [0.1, 0.1]])
def test_bad_grids(tmp_path, rates):
    with pytest.raises(InputError, match="a grid needs two or more learning rates"):
        tune(smoke(), "sgdm", rates, 0.1, tmp_path, Console(file=io.StringIO()))
    with pytest.raises(InputError, match=r"no config\.lion to tune"):
        tune(smoke(), "lion", [1.0, 2.0], 0.1, tmp_path, Console(file=io.StringIO()))


def test_iterate_rows_survive(tmp_path):
    run_records = RunRecords(tmp_path)
    row = IterateRow("adam", 1, "same_loss", 2.5, 7, 2.25)
    run_records.iterates["same_loss", 2.5] = row
    run_records.write()
    assert RunRecords(tmp_path).iterates == {("same_loss", 2.5): row}


def test_moments_as_epochs_and_percentages(tmp_path):
    config = smoke(steps=8, probe__steps=("50%", 0, "100%"), optimizers=("adam",), compare=())
    run(config, tmp_path)
    assert {r["step"] for r in rows(tmp_path, "geometry")} == {"0", "4", "8"}
    per_epoch = 8 / float(rows(tmp_path, "geometry")[-1]["epoch"])
    moments = (f"{2 / per_epoch} epochs", f"{4 / per_epoch} epochs", 8)
    later = smoke(steps=8, probe__steps=moments, optimizers=("adam",), compare=())
    run(later, tmp_path)
    assert {r["step"] for r in rows(tmp_path, "geometry")} == {"0", "2", "4", "8"}
    with pytest.raises(InputError, match=r"probe\.steps takes steps .*not 'late'"):
        run(smoke(probe__steps=("late",)), tmp_path / "other")
    with pytest.raises(InputError, match=r"probe\.steps must lie in 0 to steps=6; outside"):
        run(smoke(probe__steps=("90 epochs",)), tmp_path / "other")


def test_checkpoints_are_probed_otherwise_and_apart(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = records(folder)
    changes = {"probe__layers": (2, 9), "probe__num_coordinates": 3, "probe__steps": (3, 5, 6)}
    config = smoke(probe_only="head", **changes)
    _, said = run(config, folder)
    assert "adam, repeat 0: no checkpoint at step 5" in said
    assert records(folder) == before
    probed = rows(folder / "probes/head", "geometry")
    assert {(r["layer_number"], r["step"]) for r in probed} == {
        (layer, step) for layer in "29" for step in "36"
    }
    assert {r["value"] for r in probed if r["statistic"] == "num_entries"} == {"3"}
    run(config, folder)
    assert rows(folder / "probes/head", "geometry") == probed
    with pytest.raises(InputError, match=r"probe\.num_coordinates: 3 there, 4 now"):
        run(smoke(probe_only="head", **changes | {"probe__num_coordinates": 4}), folder)
    with pytest.raises(InputError, match=r"adam\.learning_rate"):
        run(smoke(probe_only="other", adam__learning_rate=0.7), folder)
    with pytest.raises(InputError, match="probe_only must be a name"):
        run(smoke(probe_only="../up"), folder)
