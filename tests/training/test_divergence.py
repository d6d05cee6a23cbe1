"""An inf or a NaN anywhere is found and described; a damaged config.json is an error."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hgeo.errors import InputError
from hgeo.experiment.work_folder import WorkFolder, _sha256
from hgeo.records.run_records import GeometryRow, LossRow, RunRecords
from hgeo.report.tables import divergence_notes
from hgeo.training.finite import describe, first_not_finite
from tests.experiments import load_config

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


@pytest.mark.parametrize("damage", ["half", "digit"])
def test_a_damaged_config_json_is_an_error(tmp_path, damage):
    config = load_config("quickstart", "smoke", **ONE)
    WorkFolder(tmp_path)
    plain = json.loads(json.dumps(config.to_dict()))
    text = json.dumps({"config": plain, "config_sha256": _sha256(plain)})
    spoilt = text[:99] if damage == "half" else text.replace('"seed": 0', '"seed": 4')
    (tmp_path / "config.json").write_text(spoilt)
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        WorkFolder(tmp_path).check(config.to_dict())
