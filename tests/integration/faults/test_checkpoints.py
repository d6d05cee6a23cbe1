"""Branches, replays and later probes that start at a damaged checkpoint."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.errors import InputError
from hgeo.training.checkpoints import Checkpoints
from tests.damage import checkpoints, contents, spoil
from tests.experiments import load_config, records, run

STEPS = (0, 3, 6)


def state(step):
    values = np.random.default_rng(step).normal(size=(40, 30)).astype(np.float32)
    return {
        "variables": {"kernel": jnp.asarray(values), "bias": jnp.zeros(7, jnp.bfloat16)},
        "mu": jnp.asarray(values[::-1].copy()),
        "step": jnp.int32(step),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    own = Checkpoints(folder)
    for step in STEPS:
        own.save(step, state(step))
    own.close()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run" / "checkpoints")


QUICK = {
    "probe__layers": (4,),
    "model__num_blocks": 1,
    "probe__num_coordinates": 2,
    "optimizers": ("sgdm",),
    "compare": (),
    "same_loss__window": 1,
    "sgdm__learning_rate": 0.02,
}


def config(**changes):
    return load_config("quickstart", "smoke", **(QUICK | changes))


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    run(config(), folder)
    return folder


@pytest.fixture
def work(calm, tmp_path):
    return shutil.copytree(calm, tmp_path / "work")


def broken(work, *steps):
    for step in steps:
        spoil(checkpoints(work, "sgdm") / str(step))


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
    broken(tmp_path / "other", 3)
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
    broken(work, 3)
    _, said = run(config(**looking), work)
    assert "checkpoints/3 is damaged" in said
    assert records(work) == records(whole)


@pytest.mark.slow
def test_probing_alone_leaves_damaged_checkpoints_out(work):
    broken(work, 3)
    before = contents(work / "runs")
    _, said = run(config(probe_only="again", probe__num_coordinates=3), work)
    assert "checkpoints/3 is damaged" in said
    assert "nothing is measured there" in said
    lines = (work / "probes/again/geometry.csv").read_text().splitlines()[1:]
    assert {line.split(",")[2] for line in lines} == {"0", "6"}
    assert contents(work / "runs") == before
    broken(work, 0, 6)
    with pytest.raises(InputError, match="no checkpoint that can be trusted"):
        run(config(probe_only="more", probe__num_coordinates=3), work)
