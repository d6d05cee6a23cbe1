"""The disk space of checkpoints, against what a run leaves."""

import jax
import pytest
from etils import epath

from hgeo.experiment import disk_use
from hgeo.experiment.disk_use import checkpoint_bytes, disk_line, free_bytes
from hgeo.experiment.resolve import resolve
from hgeo.experiment.shared_resources import build_resources, initial_state
from hgeo.experiment.work_folder import WorkFolder
from tests.experiments import load_config, run


def needed(config, folder):
    work = WorkFolder(folder)
    resolved = resolve(config, work)
    variables = jax.eval_shape(resolved.read_workload().init, jax.random.key(0))
    return checkpoint_bytes(resolved, variables, work, resolved.runs)


def test_it_is_the_states_of_all_kept_checkpoints(tmp_path):
    config = load_config("quickstart", "smoke", checkpoint_every=2)
    resources = build_resources(resolve(config, WorkFolder(tmp_path)))
    sizes = [
        sum(leaf.nbytes for leaf in jax.tree.leaves(initial_state(resources, plan)[:2]))
        for plan in resources.resolved.plans
    ]
    assert needed(config, tmp_path) == 5 * sum(sizes), "steps 0, 2, 3, 4 and 6"
    measured = load_config("quickstart", "smoke", checkpoint_every=2, keep_checkpoints="measured")
    assert needed(measured, tmp_path) == 3 * sum(sizes)


@pytest.mark.slow
def test_saved_checkpoints_need_no_more(tmp_path):
    config = load_config("quickstart", "smoke", optimizers=("sgdm",), compare=())
    before = needed(config, tmp_path)
    _, said = run(config, tmp_path)
    assert before > 0
    assert needed(config, tmp_path) == 0
    assert f"checkpoints will take up to {before / 1e9:.3g} GB" in said


def test_too_little_space_is_said_with_what_helps(monkeypatch, tmp_path):
    monkeypatch.setattr(disk_use, "free_bytes", lambda folder: 10**9)
    enough, scarce = (disk_line(n, epath.Path(tmp_path)) for n in (10**9, 2 * 10**9))
    assert "1 GB are free" in enough
    assert "make room" not in enough
    assert "make room, or keep fewer: keep_checkpoints" in scarce


def test_cloud_storage_has_no_known_end():
    assert free_bytes(epath.Path("gs://bucket/folder")) is None
    assert disk_line(10**9, epath.Path("gs://bucket/folder")).endswith("in gs://bucket/folder")
