"""Runs compared where their losses are equal."""

import pytest

from hgeo.training import loop
from tests.experiments import records, rows, run
from tests.interruptions import interrupted
from tests.trajectories import losses_of, smoke


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


def saved(folder):
    checkpoints = folder / "runs/sgdm/repeat_0/checkpoints"
    return {int(path.name) for path in checkpoints.glob("[0-9]*")}


def with_branches(*losses, **changes):
    """SGD+M, which passes a compared loss, and branches of it at later losses."""
    blocks = {
        f"at_{n}": {"optimizer": "sgd", "start_run": "sgdm", "start_loss": x, "learning_rate": 0.1}
        for n, x in enumerate(losses)
    }
    config = {"optimizers": ("sgdm", *blocks), "compare": (), "probe__num_coordinates": 2}
    config |= {"same_loss__window": 1, "probe__steps": (0, 6)}
    return smoke(**blocks, **(config | changes))


def test_training_again_keeps_the_checkpoints_at_equal_losses_and_starts(tmp_path):
    run(smoke(optimizers=("sgdm",), compare=(), probe__steps=()), tmp_path / "curve")
    curve = losses_of(tmp_path / "curve", "sgdm")
    lowest = [step for step in range(1, 6) if curve[step] < min(curve[n] for n in range(step))]
    first, second, third = lowest[:3]
    # The records have nine digits of a loss.
    compared, *starts = (curve[step] + 1e-6 for step in (first, second, third))
    run(with_branches(*starts, same_loss__losses=(compared,)), tmp_path / "work")
    assert saved(tmp_path / "work") == {0, first, second, third, 6}

    later = with_branches(*starts, same_loss__losses=(compared,), probe__steps=(0, 5, 6))
    run(later, tmp_path / "work")
    assert saved(tmp_path / "work") == {0, first, second, third, 5, 6}


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
    with interrupted(loop, "_update_until", 6):
        run(config, tmp_path / "stopped")
    original, starts = loop._update_until, []

    def noted(stop, runs, states, progress):
        starts.append(int(states[0].step))
        return original(stop, runs, states, progress)

    monkeypatch.setattr(loop, "_update_until", noted)
    run(config, tmp_path / "stopped")
    assert starts[0] == 4, "it continues where it stopped, though earlier checkpoints were dropped"
    assert records(tmp_path / "stopped") == records(tmp_path / "calm")
