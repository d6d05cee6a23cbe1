"""Every optimizer of Optax: its P is right, or an error names the reason."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import hgeo

W = jnp.array([[1.0, -2.0], [0.5, 4.0]])
GRADIENTS = jnp.array([[[0.5, -2.0], [0.1, 3.0]], [[0.4, -1.0], [0.3, -3.0]]])


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # Optax
        yield


def state_of(optimizer, params=W, gradients=GRADIENTS):
    state = optimizer.init(params)
    for gradient in gradients:
        tree = jax.tree.map(lambda leaf, g=gradient: g, params)
        _, state = optimizer.update(tree, state, params)
    return state


@pytest.mark.parametrize(
    ("optimizer", "constants", "expected"),
    [
        (optax.adamax(1.0), {"kind": "adamax"}, [0.4995, 1.998, 0.3, 3.0]),
        (
            optax.rmsprop(1.0, decay=0.9, eps=1e-8, centered=True),
            {"eps": 0.0, "eps_root": 1e-8},
            [0.17685, 0.61774, 0.09154, 1.30733],
        ),
        (
            optax.rmsprop(1.0, decay=0.9, eps=1e-8),
            {"eps": 0.0, "eps_root": 1e-8},
            np.sqrt([0.0385, 0.46, 0.0099, 1.71]),
        ),
        (
            optax.adagrad(1.0, initial_accumulator_value=0.1, eps=1e-7),
            {"eps": 0.0, "eps_root": 1e-7},
            np.sqrt([0.51, 5.1, 0.2, 18.1]),
        ),
        (
            optax.adam(1.0, b2=0.9, eps=1e-3),
            {"b2": 0.9, "eps": 1e-3},
            np.sqrt(np.array([0.0385, 0.46, 0.0099, 1.71]) / 0.19) + 1e-3,
        ),
    ],
    ids=["adamax", "centered_rmsprop", "rmsprop", "adagrad", "adam"],
)
def test_is_the_closed_form(optimizer, constants, expected):
    state = state_of(optimizer)
    for checked in ({}, {"optimizer": optimizer, "params": W}):
        found = hgeo.preconditioner(state, **constants, **checked)
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4)


ROOT = {"eps": 0.0, "eps_root": 1e-8}
RIGHT = {
    "adam": {"b2": 0.999}, "adamw": {"b2": 0.999}, "lamb": {"b2": 0.999, "eps": 1e-6},
    "adamax": {"kind": "adamax"}, "adamaxw": {"kind": "adamax"}, "nadam": {"b2": 0.999},
    "nadamw": {"b2": 0.999}, "yogi": {"b2": 0.999, "eps": 1e-3}, "amsgrad": {},
    "optimistic_adam_v2": {"b2": 0.999},
    "adabelief": {"b2": 0.999, "eps": 1e-16}, "rmsprop": ROOT,
    "adagrad": {"eps": 0.0, "eps_root": 1e-7}, "ademamix": {"b2": 0.999},
    "simplified_ademamix": {"b2": 0.999}, "schedule_free_adamw": {"b2": 0.999},
}  # fmt: skip
REFUSED = {
    **dict.fromkeys(("radam", "adopt", "acprop"), "does not divide by the P"),
    **dict.fromkeys(
        ("sgd", "fromage", "noisy_sgd", "sign_sgd", "signum", "optimistic_gradient_descent"),
        "must hold one second moment",
    ),
    "lars": "must hold", "polyak_sgd": "must hold", "schedule_free_sgd": "must hold",
    "adafactor": "FactoredState", "adadelta": "ScaleByAdaDeltaState", "adan": "ScaleByAdanState",
    "lion": "ScaleByLionState", "novograd": "ScaleByNovogradState", "rprop": "ScaleByRpropState",
    "sm3": "ScaleBySM3State", "lbfgs": "ScaleByLBFGSState", "cocob": "COCOBState",
    "dadapt_adamw": "DAdaptAdamWState", "dog": "DoGState", "dowg": "DoWGState",
    "galore": "GaLoreState", "madgrad": "MadgradState", "momo": "MomoState",
    "momo_adam": "MomoAdamState", "muon": "MuonState", "prodigy": "ProdigyState",
    "sophia": "SophiaState",
}  # fmt: skip


def aliases():
    """Optax's optimizers by name."""
    found = {}
    for module in (optax, optax.contrib):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            makers = ("scale_by_", "_", "add_", "schedule_free")
            if name.startswith(makers) and not name.startswith("schedule_free_"):
                continue
            if {"learning_rate", "max_learning_rate"} & set(inspect.signature(function).parameters):
                found[name] = function
    found.pop("dpsgd", None)  # takes gradients of examples
    found.pop("optimistic_adam", None)  # deprecated
    return found


ALIASES = aliases()


@pytest.mark.filterwarnings("ignore:Specifying a key")
@pytest.mark.parametrize("name", sorted(ALIASES))
def test_every_alias_is_right_or_refused_by_name(name):
    assert name in RIGHT.keys() | REFUSED.keys(), f"Optax has a new optimizer, {name}"
    own = inspect.signature(ALIASES[name]).parameters
    rate = {"learning_rate": 0.1} if "learning_rate" in own else {}
    optimizer = ALIASES[name](**rate)
    if name in REFUSED:
        told = {"optimizer": optimizer, "params": W} if "divide" in REFUSED[name] else {}
        state = optimizer.init(W)
        with pytest.raises(ValueError, match=REFUSED[name]):
            hgeo.preconditioner(state, **told)
        return
    found = hgeo.preconditioner(state_of(optimizer), **RIGHT[name], optimizer=optimizer, params=W)
    assert found.shape == W.shape
    assert np.all(found > 0)


ADAM = {"b2": 0.999, "eps": 0.0}
TREE = {"a": W, "b": {"c": W, "d": W}}
LABELS = {"a": "slow", "b": {"c": "fast", "d": "none"}}
WRAPPED = {
    "chain": optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(0.1, eps=0.0), optax.trace(0.9)
    ),
    "inject": optax.inject_hyperparams(optax.adam)(learning_rate=0.1, eps=0.0),
    "multi_steps": optax.MultiSteps(optax.adam(0.1, eps=0.0), 1).gradient_transformation(),
    "multi_steps_of_a_chain": optax.chain(
        optax.clip(9.0), optax.MultiSteps(optax.adamw(0.1, eps=0.0), 1).gradient_transformation()
    ),
    "apply_if_finite": optax.apply_if_finite(optax.adam(0.1, eps=0.0), 3),
    "named_chain": optax.named_chain(("adam", optax.adam(0.1, eps=0.0))),
    "schedule": optax.adamw(optax.linear_schedule(0.0, 1.0, 10), eps=0.0),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_are_looked_into(name):
    optimizer, gradients = WRAPPED[name], GRADIENTS * 0.1
    state = state_of(optimizer, TREE, gradients)
    found = hgeo.preconditioner(state, **ADAM, optimizer=optimizer, params=TREE)
    plain = hgeo.preconditioner(state_of(optax.adam(0.1), TREE, gradients), **ADAM)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, plain)


@pytest.mark.parametrize("mean", [True, False])
def test_accumulated_gradients_are_one_update(mean):
    """P is that of the update which ends the mini-steps."""
    multi = optax.MultiSteps(optax.adam(0.1, eps=0.0), 3, use_grad_mean=mean)
    optimizer, gradients = multi.gradient_transformation(), np.repeat(0.1 * GRADIENTS, 3, axis=0)
    state = state_of(optimizer, TREE, gradients)
    found = hgeo.preconditioner(state, **ADAM, optimizer=optimizer, params=TREE)
    plain = hgeo.preconditioner(state_of(optax.adam(0.1), TREE, 0.1 * GRADIENTS), **ADAM)
    size = 1.0 if mean else 3.0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, size * b, rtol=1e-5), found, plain)
    wrong = optax.MultiSteps(optax.radam(0.1, eps=0.0), 3).gradient_transformation()
    with pytest.raises(ValueError, match="does not divide by the P"):
        hgeo.preconditioner(wrong.init(TREE), eps=0.0, optimizer=wrong, params=TREE)


GROUPS = {"slow": optax.adam(0.01, eps=0.0), "fast": optax.adam(0.1, b2=0.999, eps=0.0)}
PARTS = {
    "two_groups": (optax.partition({**GROUPS, "none": optax.set_to_zero()}, LABELS), ("a", "b/c")),
    "labels_of_a_branch": (
        optax.partition({**GROUPS, "none": optax.sgd(0.1)}, {"a": "slow", "b": "none"}), ("a",)
    ),
    "masked": (optax.masked(optax.adam(0.1, eps=0.0), {"a": False, "b": True}), ("b/c", "b/d")),
    "nested": (
        optax.chain(
            optax.masked(optax.adam(0.1, eps=0.0), {"a": False, "b": {"c": True, "d": False}}),
            optax.masked(optax.set_to_zero(), {"a": True, "b": {"c": False, "d": True}}),
        ),
        ("b/c",),
    ),
    "lion_elsewhere": (
        optax.partition(GROUPS | {"none": optax.lion(0.1)}, LABELS), ("a", "b/c")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_only_leaves_that_are_trained_have_one(name):
    optimizer, trained = PARTS[name]
    state = state_of(optimizer, TREE)
    found = hgeo.preconditioner(state, **ADAM, optimizer=optimizer, params=TREE)
    layers = hgeo.find_layers(TREE)
    expected = hgeo.preconditioner(state_of(optax.adam(0.1)), **ADAM)
    assert list(hgeo.find_layers(found)) == list(trained)
    for path in trained:
        np.testing.assert_allclose(layers[path].ravel(found), expected.ravel(), rtol=1e-5)


def test_a_frozen_layer_is_refused_and_the_others_are_right():
    b = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    loss = lambda params, batch: sum(0.5 * jnp.sum(batch * w**2) for w in jax.tree.leaves(params))
    params = {"frozen": W, "trained": b}
    groups = {"yes": optax.adam(0.1, eps=0.0), "no": optax.set_to_zero()}
    optimizer = optax.partition(groups, {"frozen": "no", "trained": "yes"})
    state = optimizer.init(params)
    _, state = optimizer.update(jax.grad(loss)(params, b), state, params)
    seen = hgeo.preconditioned(loss, hgeo.preconditioner(state, **ADAM))
    layers = hgeo.find_layers(params)
    coordinates = hgeo.sample_coordinates(layers, 4, jax.random.key(0))
    own = {"trained": coordinates["trained"]}
    (trained,) = hgeo.sampled_diagonal(seen, params, b, own).values()
    np.testing.assert_allclose(trained, [1, 1 / 2, 1 / 3, 1 / 4], rtol=1e-5)  # P = |b w| = b²
    for mode in ("auto", "adjoint_weighted", "forward_over_reverse", "forward_over_forward"):
        with pytest.raises(ValueError, match="leaf 'frozen' has no preconditioner"):
            hgeo.sampled_diagonal(seen, params, b, coordinates, mode=mode)
    (full,) = hgeo.full_diagonal(seen, params, b, {"trained": layers["trained"]}).values()
    np.testing.assert_allclose(full, trained, rtol=1e-5)


def test_a_wrong_kind_or_eps_is_seen_in_the_updates():
    for optimizer, constants in (
        (optax.adamax(1.0), {}),
        (optax.adam(1.0), {"kind": "adamax"}),
        (optax.adam(1.0, eps=1e-4), {"b2": 0.999}),
        (optax.rmsprop(1.0, eps=1e-5), {"eps": 1e-5}),
    ):
        state = state_of(optimizer)
        hgeo.preconditioner(state, **constants)
        with pytest.raises(ValueError, match=r"leaf '': the optimizer does not divide by the P"):
            hgeo.preconditioner(state, **constants, optimizer=optimizer, params=W)


def test_moments_of_joined_leaves_are_refused():
    params = {"a": W, "b": 2 * W}
    optimizer = optax.flatten(optax.adam(1.0))
    _, state = optimizer.update(params, optimizer.init(params), params)
    with pytest.raises(ValueError, match=r"leaf 'a': the moments .* not of the params' structure"):
        hgeo.preconditioner(state, b2=0.999, optimizer=optimizer, params=params)


class ScaleByAdamState(optax.ScaleByRssState):
    """A state of another library with the same name and other fields."""


def test_a_state_of_somebody_elses_is_not_guessed():
    own = ScaleByAdamState(W)
    with pytest.raises(ValueError, match=r"consists of \['tests.*ScaleByAdamState'\]"):
        hgeo.preconditioner(own)
    with pytest.raises(ValueError, match=r"consists of \['jaxlib.*Array"):
        hgeo.preconditioner({"nu": W})
    with pytest.raises(ValueError, match=r"kind must be one of adam, adamax, .* not 'adamm'"):
        hgeo.preconditioner(state_of(optax.adam(1.0)), kind="adamm")
    with pytest.raises(ValueError, match=r"such as kind='adagrad' has \(ScaleByRssState\)"):
        hgeo.preconditioner(state_of(optax.adam(1.0)), kind="adagrad")
