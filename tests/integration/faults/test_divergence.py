"""A run that is no longer finite is marked with its step and layer; the others continue."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hgeo.records.run_records import RunRecords
from hgeo.training.updates import Updates
from tests.experiments import load_config, run

ONE = {"probe__layers": (4,), "probe__num_coordinates": 2, "probe__steps": (0, 6)}


def spoiled(monkeypatch, at, change):
    """Every run's state is changed before its update number `at`."""
    original = Updates.__call__

    def call(self, packed, examples, rows, rates):
        if len(rates) == 1 and rates[0] == np.float32(0.25) and int(packed.step) == at:
            packed = change(packed)
        return original(self, packed, examples, rows, rates)

    monkeypatch.setattr(Updates, "__call__", call)


def on_leaf(tree, path, value):
    *groups, last = path
    part = tree
    for group in groups:
        part = part[group]
    part[last] = jnp.full_like(part[last], value)
    return tree


LAYER = ("block1", "linear1", "kernel")


def in_weights(state):
    return state._replace(variables={"params": on_leaf(state.variables["params"], LAYER, np.nan)})


def in_moment(state):
    """Momentum that overflows in one layer: its weights go with it, at a loss that is finite."""
    trace = [s for s in jax.tree.leaves(state.optimizer, is_leaf=is_trace) if is_trace(s)]
    on_leaf(trace[0].trace, LAYER, np.inf)
    return state


def is_trace(node):
    return isinstance(node, optax.TraceState)


def test_a_moment_that_overflows_is_marked_with_step_and_layer(tmp_path, monkeypatch):
    spoiled(monkeypatch, 3, in_moment)
    config = load_config("quickstart", "smoke", sgdm__learning_rate=0.25, **ONE)
    finite, said = run(config, tmp_path)
    assert not finite
    assert "sgdm, repeat 0: diverged" in said
    assert "optimizer state trace of block1/linear1/kernel is not finite" in said
    lines = (tmp_path / "runs/sgdm/repeat_0/not_finite.csv").read_text().splitlines()
    assert lines[1].startswith("sgdm,0,3,")
    assert lines[1].endswith(",optimizer state trace,block1/linear1/kernel")
    own = RunRecords(tmp_path / "runs/sgdm/repeat_0")
    assert sorted(own.losses) == [0, 1, 2, 3]
    assert all(np.isfinite(row.loss) for row in own.losses.values()), "the loss alone tells nothing"
    assert len(RunRecords(tmp_path / "runs/adam/repeat_0").losses) == 6, "the other went on"
    for name in ("table.md", "report.html"):
        assert "block1/linear1/kernel is not finite" in (tmp_path / name).read_text()
    monkeypatch.undo()
    again, _ = run(config, tmp_path)
    assert again is False, "a finished folder still tells it"


def test_a_loss_that_is_nan_names_a_layer(tmp_path, monkeypatch):
    spoiled(monkeypatch, 2, in_weights)
    config = load_config("quickstart", "smoke", sgdm__learning_rate=0.25, **ONE)
    finite, said = run(config, tmp_path)
    assert not finite
    assert "sgdm, repeat 0: diverged at step 2 (loss nan, first seen in " in said
    assert RunRecords(tmp_path / "runs/sgdm/repeat_0").diverged_at == 2


def test_config_json_says_what_numbers_were_made_with(tmp_path):
    config = load_config("quickstart", "smoke", optimizers=("adam",), compare=(), **ONE)
    run(config, tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    environment = content["environment"]
    assert environment["dtype"] == ["float32"]
    assert environment["probe_precision"] == config.probe.precision
    assert {"training_precision", "device_kind", "platform", "git_revision"} <= set(environment)
    assert {"jax", "optax", "numpy"} <= set(environment["libraries"])
    assert len(content["config_sha256"]) == len(content["data"]["sha256"]) == 64

    elsewhere = {**environment, "device_kind": "another"}
    path.write_text(json.dumps({**content, "environment": elsewhere}))
    run(
        load_config(
            "quickstart",
            "smoke",
            **ONE | {"probe__steps": (0, 2, 6)},
            optimizers=("adam",),
            compare=(),
        ),
        tmp_path,
    )
    assert json.loads(path.read_text())["earlier_environments"] == [elsewhere]
