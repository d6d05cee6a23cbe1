"""Branches, replays and later probes that start at a damaged checkpoint."""

import shutil

import pytest

from hgeo.errors import InputError
from tests.damage import contents, spoil_steps
from tests.experiments import records, run
from tests.trajectories import least as config


@pytest.mark.slow
def test_a_branch_from_a_damaged_checkpoint(tmp_path):
    block = {"optimizer": "adam", "start_run": "sgdm", "start_step": 3, "learning_rate": 1e-3}
    branched = config(optimizers=("sgdm",))
    with branched.unlocked():
        branched.branch = block
        branched.optimizers = ("sgdm", "branch")
    branched.lock()
    run(branched, tmp_path / "calm")
    run(branched, tmp_path / "other")
    shutil.rmtree(tmp_path / "other/runs/branch")
    spoil_steps(tmp_path / "other", "sgdm", 3)
    _, said = run(branched, tmp_path / "other")
    assert "checkpoints/3 is damaged" in said
    assert records(tmp_path / "other") == records(tmp_path / "calm")


def test_equal_losses_are_replayed_from_whole_checkpoints(work, calm, tmp_path):
    """The step at that loss lies behind step 3, whose checkpoint the replay begins with."""
    curve = [float(line.split(",")[-1]) for line in (calm / "losses.csv").read_text().split()[1:]]
    lowest_before = min(curve[:4])
    assert min(curve[4:]) < lowest_before
    looking = {"same_loss__losses": ((min(curve[4:]) + lowest_before) / 2,)}
    whole = shutil.copytree(calm, tmp_path / "whole")
    run(config(**looking), whole)
    spoil_steps(work, "sgdm", 3)
    _, said = run(config(**looking), work)
    assert "checkpoints/3 is damaged" in said
    assert records(work) == records(whole)


@pytest.mark.slow
def test_probing_alone_leaves_damaged_checkpoints_out(work):
    spoil_steps(work, "sgdm", 3)
    before = contents(work / "runs")
    _, said = run(config(probe_only="again", probe__num_coordinates=3), work)
    assert "checkpoints/3 is damaged" in said
    assert "nothing is measured there" in said
    lines = (work / "probes/again/geometry.csv").read_text().splitlines()[1:]
    assert {line.split(",")[2] for line in lines} == {"0", "6"}
    assert contents(work / "runs") == before
    spoil_steps(work, "sgdm", 0, 6)
    with pytest.raises(InputError, match="no checkpoint that can be trusted"):
        run(config(probe_only="more", probe__num_coordinates=3), work)
