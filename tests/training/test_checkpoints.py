"""Checkpoints that are not what was saved: seen, said, and replaced from the ones before."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.errors import InputError
from hgeo.training.checkpoints import Checkpoints, DamagedCheckpoint, digest
from tests.damage import (
    array_files,
    checkpoints,
    contents,
    files,
    flip,
    spoil,
    spoil_steps,
    truncate,
)
from tests.experiments import records, run
from tests.trajectories import least as config

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


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.map(lambda x: x.dtype, a) == jax.tree.map(lambda x: x.dtype, b)


def test_what_was_saved_comes_back(folder):
    own = Checkpoints(folder)
    for step in STEPS:
        same(own.restore(step, state(0)), state(step))
    own.close()


def test_no_flipped_bit_comes_back(folder):
    """Each bit is flipped alone, in any file of the checkpoint: an error, or the true arrays."""
    rng, refused = np.random.default_rng(0), 0
    whole = {path: path.read_bytes() for path in files(folder / "6")}
    largest = array_files(folder / "6")[0]
    places = [(largest, place) for place in rng.random(12)]
    places += [(path, place) for path in whole for place in rng.random(2)]
    for path, place in places:
        flip(path, place, int(rng.integers(8)))
        own = Checkpoints(folder)
        try:
            if 6 in own.steps():
                same(own.restore(6, state(0)), state(6))
        except DamagedCheckpoint:
            refused += own.steps() == [0, 3]
        own.close()
        path.write_bytes(whole[path])
    assert refused > 12
    assert contents(folder / "6") == whole


def test_without_the_digest_flipped_bits_would_come_back(folder, monkeypatch):
    """What the digest is for: Orbax itself restores them as wrong values."""
    monkeypatch.setattr(Checkpoints, "_difference", lambda *_: "")
    wrong = 0
    largest = array_files(folder / "6")[0]
    whole = largest.read_bytes()
    for place in np.linspace(0.2, 0.8, 6):
        flip(largest, place)
        own = Checkpoints(folder)
        try:
            restored = own.restore(6, state(0))
            wrong += not all(
                np.array_equal(a, b)
                for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state(6)), strict=True)
            )
        except DamagedCheckpoint:
            pass
        own.close()
        largest.write_bytes(whole)
    assert wrong > 0


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_truncated_files(folder, share):
    for path in array_files(folder / "6"):
        truncate(path, share)
    own = Checkpoints(folder)
    with pytest.raises(DamagedCheckpoint, match=r"checkpoints/6 is damaged"):
        own.restore(6, state(0))
    same(own.restore(3, state(0)), state(3))
    own.save(6, state(6))
    same(own.restore(6, state(0)), state(6))
    own.close()


def test_none_is_good(folder):
    for step in STEPS:
        spoil(folder / str(step))
    before = contents(folder)
    own = Checkpoints(folder)
    for step in (3, 6):
        with pytest.raises(DamagedCheckpoint):
            own.restore(step, state(0))
    with pytest.raises(InputError, match=r"no checkpoint that can be trusted \(step 0: .*step 6: "):
        own.restore(0, state(0))
    own.close()
    assert contents(folder) == before


def test_one_without_a_digest_is_taken_and_said(folder):
    path = folder / "6" / "_CHECKPOINT_METADATA"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps(metadata | {"custom_metadata": {}}))
    own = Checkpoints(folder)
    with pytest.warns(UserWarning, match="6 has no digest"):
        same(own.restore(6, state(0)), state(6))
    own.close()


def test_the_digest_tells_values_shapes_dtypes_and_places():
    given = {"a": jnp.zeros((2, 3)), "b": jnp.ones((3, 2))}
    others = [
        {"a": jnp.zeros((2, 3)), "b": jnp.ones((3, 2)).at[0, 0].set(2)},
        {"a": jnp.ones((3, 2)), "b": jnp.zeros((2, 3))},
        {"a": jnp.zeros((3, 2)), "b": jnp.ones((3, 2))},
        {"a": jnp.zeros((2, 3), jnp.int32), "b": jnp.ones((3, 2))},
        {"c": jnp.zeros((2, 3)), "b": jnp.ones((3, 2))},
        {"a": -jnp.zeros((2, 3)), "b": jnp.ones((3, 2))},
    ]
    digests = {digest(tree) for tree in (given, *others)}
    assert len(digests) == 1 + len(others)
    assert digest(jax.tree.map(jnp.copy, given)) == digest(given)


def stored(folder, step):
    own = Checkpoints(checkpoints(folder, "sgdm"))
    metadata = own._manager.metadata(step).custom_metadata
    own.close()
    return metadata


def test_a_run_goes_on_from_the_one_before_and_says_so(calm, work):
    """Stopped behind step 3, whose checkpoint is then damaged: the run continues from step 0."""
    shutil.rmtree(checkpoints(work, "sgdm") / "6")
    spoil_steps(work, "sgdm", 3)
    _, said = run(config(), work)
    assert "checkpoints/3 is damaged" in said
    assert "continuing from the checkpoint before" in said
    assert records(work) == records(calm)
    for step in (3, 6):
        assert stored(work, step) == stored(calm, step)


@pytest.mark.slow
def test_a_probe_added_later_at_a_damaged_checkpoint(calm, work):
    """It is trained to again: same rows, and the checkpoint is whole again."""
    geometry = checkpoints(work, "sgdm").parent / "geometry.csv"
    lines = geometry.read_text().splitlines(keepends=True)
    geometry.write_text("".join(line for line in lines if not line.startswith("sgdm,0,6,")))
    spoil_steps(work, "sgdm", 6)
    _, said = run(config(), work)
    assert "checkpoints/6 is damaged" in said
    assert records(work) == records(calm)
    assert stored(work, 6) == stored(calm, 6)


def test_all_damaged_is_an_error_and_nothing_is_deleted(work):
    shutil.rmtree(checkpoints(work, "sgdm") / "6")
    spoil_steps(work, "sgdm", 0, 3)
    before = contents(work / "runs")
    with pytest.raises(InputError, match=r"no checkpoint that can be trusted.*nothing was deleted"):
        run(config(), work)
    assert contents(work / "runs") == before
