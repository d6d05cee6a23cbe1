"""Params and batches with leaves that are not arrays: functions, strings, enums, None."""

import enum
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hgeo
from hgeo.measure.named import OF_PRECONDITIONER
from hgeo.params.static_leaves import StaticLeaf, hold, release
from tests.probes.dense import error, slow


class Reduction(enum.IntEnum):
    MEAN = 1
    SUM = 2


DEVICE = jax.devices()[:1]
MLP = eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (5, 3))
PARAMS = {"net": MLP, "kind": "net", "nothing": None}
BATCH = {"x": X, "reduce": Reduction.SUM, "power": jnp.square, "kind": "words"}
PLAIN_PARAMS, STATIC = eqx.partition(MLP, eqx.is_array)


def outputs(params, batch):
    assert batch["reduce"] is Reduction.SUM
    assert batch["kind"] == "words"
    return batch["power"](jax.vmap(params[params["kind"]])(batch["x"]))


def head(outputs, batch):
    return batch["reduce"] * jnp.mean(outputs**2)


def loss(params, batch):
    return head(outputs(params, batch), batch)


def plain_loss(params, x):
    return loss({**PARAMS, "net": eqx.combine(params["net"], STATIC)}, {**BATCH, "x": x})


LAYERS = hgeo.find_layers(PARAMS)
COORDINATES = hgeo.sample_coordinates(LAYERS, 4, jax.random.key(0))
LAST = {list(LAYERS)[-1]: list(LAYERS.values())[-1]}
KEY = jax.random.key(2)
OPTIMIZER = optax.adam(1e-3)


def _state(params):
    state = OPTIMIZER.init(params)
    return OPTIMIZER.update(jax.tree.map(jnp.ones_like, params), state, params)[1]


def _preconditioned(given):
    diagonal = hgeo.preconditioner(_state(eqx.filter(given[1], eqx.is_array)), b2=0.999)
    return hgeo.sampled_diagonal(hgeo.preconditioned(*given[:1], diagonal), *given[1:], COORDINATES)


def _monitor(given):
    monitor = hgeo.Monitor(
        given[0],
        LAYERS,
        num=4,
        statistics=("r_med", "r_diag", "low_rank", "alignment", *OF_PRECONDITIONER),
        num_matvecs=3,
        devices=DEVICE,
        optimizer=OPTIMIZER,
        preconditioner={"b2": 0.999},
    )
    state = _state(eqx.filter(given[1], eqx.is_array))
    values = monitor(0, *given[1:], optimizer_state=state)
    return {name: value for name, value in values.items() if np.isfinite(value)}


# Calls of each public function with (loss, params, batch).
CALLS = {
    "Monitor": _monitor,
    "choose_mode": lambda given: [len(hgeo.choose_mode(*given, COORDINATES).mode)],
    "condition_number": lambda given: hgeo.condition_number(*given, LAST, chunk_size=8).eigenvalues,
    "find_layers": lambda given: [layer.size for layer in hgeo.find_layers(given[1]).values()],
    "fisher": None,
    "full_diagonal": lambda given: hgeo.full_diagonal(*given, LAYERS),
    "full_diagonal_cost": lambda given: [
        cost.sweeps for cost in hgeo.full_diagonal_cost(*given, LAYERS).values()
    ],
    "gauss_newton": None,
    "make_probe": lambda given: hgeo.make_probe(given[0], COORDINATES, devices=DEVICE)(*given[1:]),
    "preconditioned": _preconditioned,
    "preconditioner": _preconditioned,
    "quadratic_forms": lambda given: hgeo.quadratic_forms(
        *given, {n: hgeo.Directions(own, jnp.ones((1, own.size))) for n, own in LAST.items()}
    ),
    "row_dominance": lambda given: hgeo.row_dominance(*given, COORDINATES, microbatch_size=5),
    "sampled_diagonal": lambda given: hgeo.sampled_diagonal(*given, COORDINATES),
    "spectrum": lambda given: hgeo.spectrum(*given, LAST, KEY, num_matvecs=3, num_samples=2)[:2],
    "stochastic_diagonal": lambda given: hgeo.stochastic_diagonal(*given, LAST, KEY, 2),
}
SLOW_CALLS = ("Monitor", "full_diagonal", "preconditioned", "quadratic_forms", "row_dominance")
# These take no params, but numbers, layers or results.
WITHOUT_PARAMS = {
    "alignment",
    "low_rank",
    "q95_over_median",
    "r_diag",
    "r_med",
    "r_med_ratio",
    "r_med_spread",
    "sample_coordinates",
}


def test_every_public_function_is_here():
    functions = {name for name in hgeo.__all__ if inspect.isfunction(getattr(hgeo, name))}
    assert functions | {"Monitor"} == CALLS.keys() | WITHOUT_PARAMS


@pytest.mark.parametrize("name", slow([n for n, call in CALLS.items() if call], SLOW_CALLS))
def test_every_public_function_takes_a_module_whole(name):
    plain = plain_loss, {**PARAMS, "kind": None, "net": PLAIN_PARAMS}, X
    with jax.numpy_dtype_promotion("standard"):  # which Optax leans on
        found, expected = CALLS[name]((loss, PARAMS, BATCH)), CALLS[name](plain)
    for own, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "curvature", [hgeo.gauss_newton, pytest.param(hgeo.fisher, marks=pytest.mark.slow)]
)
def test_other_curvature_of_a_module_taken_whole(curvature):
    split = lambda params, x: outputs(
        {**PARAMS, "net": eqx.combine(params["net"], STATIC)}, {**BATCH, "x": x}
    )
    plain = curvature(split, lambda z, x: head(z, BATCH))
    for sampled in (
        lambda *given: hgeo.sampled_diagonal(*given, COORDINATES),
        lambda given, *rest: hgeo.make_probe(given, COORDINATES, devices=DEVICE)(*rest),
    ):
        found = sampled(curvature(outputs, head), PARAMS, BATCH)
        expected = sampled(plain, {**PARAMS, "kind": None, "net": PLAIN_PARAMS}, X)
        for name in COORDINATES:
            assert error(found[name], expected[name]) < 1e-5


def test_another_static_leaf_is_another_program():
    traced = []

    def counted(params, batch):
        traced.append(1)
        return loss(params, batch)

    probe = hgeo.make_probe(counted, COORDINATES, devices=DEVICE)
    name = next(iter(COORDINATES))
    first = probe(PARAMS, BATCH)[name]
    times = len(traced)
    assert error(probe(PARAMS, BATCH)[name], first) == 0
    assert len(traced) == times
    changed = {**BATCH, "power": lambda z: 2 * z**2}  # and its square is taken
    assert error(probe(PARAMS, changed)[name], 4 * first) < 1e-6


def test_arrays_and_numbers_stay_and_all_else_is_held():
    tree = {
        "a": np.ones(2),
        "b": 1.5,
        "c": True,
        "d": "x",
        "e": Reduction.MEAN,
        "f": {3},
        "g": None,
    }
    held = hold(tree, "batch")
    assert [type(leaf) for leaf in jax.tree.leaves(held)] == [np.ndarray, float, bool]
    assert release(held) == tree
    assert hold(held, "batch") == held
    held = hold(tree, "params")
    assert [type(leaf) for leaf in jax.tree.leaves(held)] == [np.ndarray, float]
    assert release(held) == tree
    assert StaticLeaf({3}) != StaticLeaf({3})  # what can change is itself alone
    assert StaticLeaf(Reduction.SUM) == StaticLeaf(Reduction.SUM) != StaticLeaf(2)


@pytest.mark.parametrize("name", ["make_probe", "choose_mode", "full_diagonal_cost"])
def test_settings_of_a_module_are_static(name):
    """Python's bools and numbers in a module decide what it does: no loss can trace them."""

    class Net(eqx.Module):
        linear: eqx.nn.Linear
        dropout: eqx.nn.Dropout
        groups: int

        def __call__(self, x):
            return self.dropout(self.linear(x)).reshape(self.groups, -1).sum(axis=1)

    net = Net(eqx.nn.Linear(3, 4, key=KEY), eqx.nn.Dropout(0.1, inference=True), 2)
    layers = hgeo.find_layers(net)
    of_net = lambda net, x: jnp.mean(jax.vmap(net)(x) ** 2)
    chosen = hgeo.sample_coordinates(layers, 4, KEY)
    calls = {
        "make_probe": lambda: hgeo.make_probe(of_net, chosen, devices=DEVICE)(net, X),
        "choose_mode": lambda: hgeo.choose_mode(of_net, net, X, chosen),
        "full_diagonal_cost": lambda: hgeo.full_diagonal_cost(of_net, net, X, layers),
    }
    found = calls[name]()
    if name == "make_probe":
        (entries,), (own,) = found.values(), layers.values()
        exact = jax.hessian(lambda w: of_net(own.replace(net, w), X))(own.ravel(net))
        (coordinates,) = chosen.values()
        assert error(entries, jnp.diagonal(exact)[coordinates.indices]) < 1e-5


def test_an_array_of_strings_is_refused_by_its_path():
    with pytest.raises(ValueError, match="batch has an array of dtype <U1 at 'words'"):
        hgeo.sampled_diagonal(loss, PARAMS, {**BATCH, "words": np.array(["a", "b"])}, COORDINATES)


def test_params_of_an_optimizer_that_have_no_gradient_are_refused_by_their_path():
    params = {**PARAMS, "count": jnp.array(1)}
    monitor = hgeo.Monitor(
        loss, LAYERS, num=4, statistics=["alignment"], devices=DEVICE, optimizer=OPTIMIZER
    )
    state = OPTIMIZER.init(eqx.filter(params, eqx.is_inexact_array))
    with pytest.raises(ValueError, match="gradient of all params, but leaf 'count' is int32"):
        monitor(0, params, BATCH, optimizer_state=state)


def test_a_leaf_without_a_preconditioner_is_refused_by_its_path():
    diagonal = eqx.filter(PARAMS, eqx.is_array)
    diagonal = eqx.tree_at(lambda tree: tree["net"].layers[0].weight, diagonal, None)
    seen = hgeo.preconditioned(loss, diagonal)
    with pytest.raises(ValueError, match="'net/layers/0/weight' has no preconditioner"):
        hgeo.sampled_diagonal(seen, PARAMS, BATCH, COORDINATES)
    hgeo.choose_mode(seen, PARAMS, BATCH, {name: COORDINATES[name] for name in LAST})
