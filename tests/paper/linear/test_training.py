"""Training against plain NumPy loops of equation (3)."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from experiments.paper.linear.networks import initial_weights
from experiments.paper.linear.training import Setup, batch_error, train_seeds
from experiments.paper.linear.updates import Adam, SgdMomentum
from hgeo.errors import InputError

SGDM, ADAM = SgdMomentum(0.02, 0.9), Adam(0.01, 0.9, 0.98, 1e-12)
SETUP = Setup(
    width=4,
    depth=2,
    rule=SGDM,
    initial_std=0.1,
    steps=7,
    record_every=3,
    measure="mechanism",
    target_low=0.5,
    target_high=1.5,
    noise_variance=0.0,
)


def start(setup, seed):
    """The initial weights and targets of a seed, as NumPy arrays."""
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(0), np.uint32(seed))
        first, second, _ = jax.random.split(key, 3)
        weights = initial_weights(
            first, [setup.width] * setup.depth + [1], setup.initial_std, np.float64
        )
        low, high = setup.target_low, setup.target_high
        target = jax.random.uniform(second, (1, setup.width), np.float64, low, high)
        return [np.array(weight) for weight in weights], np.array(target)


def gradients(weights, target):
    chain = lambda parts, size: (
        np.linalg.multi_dot(parts) if len(parts) > 1 else parts[0] if parts else np.eye(size)
    )
    error = chain(weights[::-1], 0) - target
    return [
        chain(weights[:layer:-1], weight.shape[0]).T
        @ error
        @ chain(weights[:layer][::-1], weight.shape[1]).T
        for layer, weight in enumerate(weights)
    ], 0.5 * np.sum(error**2)


def by_hand(setup, seed, steps):
    """Losses of equation (3) written out, sums over all past gradients included."""
    weights, target = start(setup, seed)
    past, losses = [], []
    for t in range(steps):
        gradient, loss = gradients(weights, target)
        past.append(gradient)
        losses.append(loss)
        for layer in range(len(weights)):
            history = [g[layer] for g in past]
            rule = setup.rule
            if isinstance(rule, SgdMomentum):
                move = sum(rule.momentum ** (t - k) * g for k, g in enumerate(history))
                weights[layer] = weights[layer] - rule.learning_rate * move
            else:
                m = (1 - rule.b1) * sum(rule.b1 ** (t - k) * g for k, g in enumerate(history))
                v = (1 - rule.b2) * sum(rule.b2 ** (t - k) * g**2 for k, g in enumerate(history))
                size = rule.learning_rate * math.sqrt(1 - rule.b2 ** (t + 1))
                size /= 1 - rule.b1 ** (t + 1)
                weights[layer] = weights[layer] - size * m / (np.sqrt(v) + rule.xi)
    return [*losses, gradients(weights, target)[1]], weights


@pytest.mark.parametrize("rule", [SGDM, ADAM], ids=["sgdm", "adam"])
@pytest.mark.parametrize("depth", [2, 3])
def test_equation_3(rule, depth):
    setup = dataclasses.replace(SETUP, rule=rule, depth=depth)
    results = train_seeds(setup, 0, 2)
    assert list(results["step"]) == [0, 3, 6, 9]  # rounded up to whole records
    for seed in range(2):
        losses, weights = by_hand(setup, seed, 9)
        np.testing.assert_allclose(results["loss"][seed], losses, rtol=1e-10)
        last = np.square(weights[0]).sum(axis=1) if depth == 2 else None
        if last is not None:
            expected = [w.max() / np.median(w) for w in (weights[1][0] ** 2, last)]
            np.testing.assert_allclose(results["r_med"][seed, -1], expected, rtol=1e-9)


def test_a_seed_is_the_same_among_few_and_many():
    few, many = train_seeds(SETUP, 3, 2), train_seeds(SETUP, 3, 5)
    for name in ("loss", "u", "r_med"):
        np.testing.assert_allclose(few[name], many[name][:2], rtol=1e-9)


def test_noise_has_the_variance_of_assumption_3():
    setup = dataclasses.replace(SETUP, noise_variance=0.25)
    with jax.enable_x64(True):
        weights = initial_weights(jax.random.key(1), [4, 4, 1], 0.8, np.float64)
        target = np.ones((1, 4))
        keys = jax.random.split(jax.random.key(2), 20_000)
        draw = lambda key: batch_error(setup, weights, target, key)
        loss, errors = jax.jit(jax.vmap(draw))(keys)
        network = np.array(weights[1] @ weights[0])
    np.testing.assert_allclose(loss, 0.5 * np.sum((network - target) ** 2))
    deviation = np.array(errors)[:, 0] - (network - target)
    variance = 0.25 * (1 + np.sum(network**2))
    np.testing.assert_allclose(deviation.mean(axis=0), 0, atol=5 * math.sqrt(variance / 20_000))
    np.testing.assert_allclose(np.cov(deviation.T), variance * np.eye(4), atol=0.05 * variance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 1}, "width must be at least 2, not 1"),
        ({"depth": 1}, "depth must be at least 2, not 1"),
        ({"noise_variance": -1.0}, "noise_variance must not be negative, but is -1.0"),
        ({"noise_variance": math.nan}, "noise_variance"),
        ({"initial_std": 0.0}, "initial_std must be positive, not 0.0"),
        ({"target_low": 0.0}, "targets must be positive"),
        ({"measure": "trace"}, "measure must be one of"),
        ({"measure": "r_diag", "depth": 3}, "for depth 2, not 3"),
    ],
)
def test_bad_setups(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SETUP, **change)


def test_bad_rules_and_seeds():
    with pytest.raises(InputError, match="learning_rate must be positive, not 0"):
        SgdMomentum(0, 0.9)
    with pytest.raises(InputError, match=r"momentum must be at least 0 and below 1, not 1\.0"):
        SgdMomentum(0.1, 1.0)
    with pytest.raises(InputError, match="xi must be positive"):
        Adam(0.1, 0.9, 0.99, 0.0)
    with pytest.raises(InputError, match="num_seeds must be at least 1, not 0"):
        train_seeds(SETUP, 0, 0)
