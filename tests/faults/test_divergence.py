"""An inf or a NaN anywhere: marked with its step and layer, the other runs go on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hgeo.errors import InputError
from hgeo.finite import describe, first_not_finite
from hgeo.records import GeometryRow, LossRow, RunRecords
from hgeo.tables import divergence_notes
from hgeo.updates import Updates
from hgeo.workfolder import WorkFolder, _sha256
from tests.experiments import load_config, run

ONE = {"probe__layers": (4,), "probe__num_coordinates": 2, "probe__steps": (0, 6)}


def trees():
    params = {"a": {"kernel": jnp.ones((2, 3))}, "b": {"kernel": jnp.ones(4), "n": jnp.int32(1)}}
    state = optax.adam(1e-3).init({k: {"kernel": v["kernel"]} for k, v in params.items()})
    return params, state, {"params": params, "batch_stats": {"c": {"mean": jnp.zeros(3)}}}


PLACES = [
    (("grads", "a"), ("gradient", "a/kernel")),
    (("grads", "b"), ("gradient", "b/kernel")),
    (("mu", "b"), ("optimizer state mu", "b/kernel")),
    (("nu", "a"), ("optimizer state nu", "a/kernel")),
    (("params", "b"), ("weights", "b/kernel")),
    (("batch_stats", "c"), ("running statistics", "batch_stats/c/mean")),
]


@pytest.mark.parametrize(("place", "expected"), PLACES, ids=lambda p: "-".join(p))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_array_that_is_not_finite(place, expected, value):
    grads, state, variables = trees()
    name, layer = place
    spoil = lambda tree: {
        **tree,
        layer: jax.tree.map(
            lambda x: x.at[-1].set(value) if x.ndim and x.dtype == jnp.float32 else x, tree[layer]
        ),
    }
    if name == "grads":
        grads = spoil(grads)
    elif name in ("mu", "nu"):
        adam = state[0]
        state = (adam._replace(**{name: spoil(getattr(adam, name))}), *state[1:])
    else:
        variables = {**variables, name: spoil(variables[name])}
    number = jax.jit(first_not_finite)(grads, state, variables)
    assert number.dtype == jnp.int32
    assert describe(int(number), state, variables) == expected


def test_finite_trees_have_none():
    assert int(first_not_finite(*trees())) == -1


def spoiled(monkeypatch, at, change):
    """Every run's own state is changed before its update number `at`."""
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


def geometry(step, nonfinite, prefix=""):
    place = ("adam", 0, step, 0.0, 1.0, 2, "block0/linear1")
    values = {"num_entries": 200, "num_zero": 0, "num_nonfinite": nonfinite}
    return [GeometryRow(*place, prefix + name, value) for name, value in values.items()]


def test_hessian_entries_are_told_by_table_and_exit_code(tmp_path):
    own = RunRecords(tmp_path)
    own.losses[0] = LossRow("adam", 0, 0, 0.0, 1.0)
    own.geometry = {0: geometry(0, 0), 3: geometry(3, 5)}
    assert own.diverged_at is None
    assert not own.is_finite
    (note,) = divergence_notes([own])
    assert note == (
        "Adam, repeat 0: 5 of 200 Hessian entries of block0/linear1 at step 3 are not finite"
    )
    own.geometry = {0: geometry(0, 0), 3: geometry(3, 5, "preconditioned_")}
    assert own.is_finite, "an optimizer without a preconditioner has none by design"
    own.geometry = {0: geometry(0, 0), 3: geometry(3, 5, "r_diag_")}
    assert own.is_finite, "a dead unit's row is inf without any entry of the Hessian being so"
    for prefix in ("full_", "spectrum_", "eigenvalues_"):
        own.geometry = {0: geometry(0, 0), 3: geometry(3, 5, prefix)}
        assert not own.is_finite


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


@pytest.mark.parametrize("damage", ["half", "digit"])
def test_a_damaged_config_json_is_an_error(tmp_path, damage):
    config = load_config("quickstart", "smoke", **ONE)
    WorkFolder(tmp_path)
    plain = json.loads(json.dumps(config.to_dict()))
    text = json.dumps({"config": plain, "config_sha256": _sha256(plain)})
    spoilt = text[:99] if damage == "half" else text.replace('"seed": 0', '"seed": 4')
    (tmp_path / "config.json").write_text(spoilt)
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        WorkFolder(tmp_path).check(config)
