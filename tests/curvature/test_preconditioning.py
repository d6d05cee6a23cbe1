"""Preconditioners of adaptive optimizers, and preconditioned curvature."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hgeo
from hgeo.optimizers import make_optimizer, preconditioner_constants
from tests.probes.dense import error, hessian, joint_hessian, quick, slow, spans, wide_case


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax leans on it
        yield


def after_updates(optimizer, params, steps=3):
    state, updates, grads = optimizer.init(params), None, None
    for k in range(steps):
        grads = jax.tree.map(lambda x, k=k: jnp.sin(3.0 * x + k), params)
        updates, state = quick(optimizer.update)(grads, state, params)
    return grads, updates, state


PARAMS = {"a": jnp.linspace(-1.0, 2.0, 6).reshape(2, 3), "b": jnp.array([0.3, -0.7])}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adam", {"b1": 0.0, "b2": 0.99, "eps": 1e-3}),
        ("adamw", {"b1": 0.0, "b2": 0.9}),
        ("amsgrad", {"b1": 0.0, "eps": 1e-2}),
        ("adagrad", {"eps": 1e-4}),
        ("rmsprop", {"decay": 0.5, "eps": 1e-3}),
        ("yogi", {"b1": 0.0}),
    ],
)
def test_is_what_the_optimizer_divides_by(name, arguments):
    rate = 0.1
    optimizer = make_optimizer(name, {"learning_rate": rate, **arguments})
    grads, updates, state = after_updates(optimizer, PARAMS)
    diagonal = hgeo.preconditioner(state, **preconditioner_constants(name, arguments))
    for key in PARAMS:  # without momentum the update is −rate g / P
        expected = -rate * np.asarray(grads[key]) / np.asarray(diagonal[key])
        np.testing.assert_allclose(updates[key], expected, rtol=3e-5)


def test_sgd_has_none_and_lion_no_second_moment():
    assert preconditioner_constants("sgdm", {}) is None
    for name in ("sgdm", "lion"):
        _, _, state = after_updates(make_optimizer(name, {"learning_rate": 0.1}), PARAMS)
        with pytest.raises(ValueError, match=r"must hold one second moment .* not 0"):
            hgeo.preconditioner(state)


def test_several_moments_and_missing_counts_are_refused():
    both = optax.chain(optax.scale_by_adam(), optax.scale_by_rms())
    _, _, state = after_updates(both, PARAMS)
    with pytest.raises(ValueError, match=r"must hold one second moment .* not 2"):
        hgeo.preconditioner(state)
    _, _, state = after_updates(make_optimizer("adagrad", {"learning_rate": 0.1}), PARAMS)
    with pytest.raises(ValueError, match=r"b2=0.9 was given, but .* counts no steps"):
        hgeo.preconditioner(state, b2=0.9)
    fresh = make_optimizer("adam", {"learning_rate": 0.1}).init(PARAMS)
    with pytest.raises(ValueError, match="before the first update"):
        hgeo.preconditioner(fresh, b2=0.9)


@pytest.mark.parametrize("family", slow(["weight_norm", "encoder_block"], ("encoder_block",)))
def test_preconditioned_curvature_equals_the_dense_one(family):
    with jax.enable_x64(True):
        case, matrix = wide_case(family), hessian(family)
        diagonal = jax.tree.map(lambda x: 0.1 + x**2, case.params)
        seen = hgeo.preconditioned(case.loss, diagonal)
        layers = dict(list(case.layers.items())[:2])
        coordinates = {
            name: hgeo.Coordinates(layer, jnp.arange(layer.size)) for name, layer in layers.items()
        }
        both = lambda p, b: (
            joint_hessian(seen, p, b, layers),
            hgeo.sampled_diagonal(seen, p, b, coordinates),
        )
        found, entries = quick(both)(case.params, case.batch)
        for name, span in spans(layers).items():
            scale = 1.0 / np.sqrt(np.asarray(layers[name].ravel(diagonal)))
            expected = scale[:, None] * matrix[span, span] * scale[None]
            assert error(found[span, span], expected) < 1e-12
            assert error(entries[name], np.diagonal(expected)) < 1e-12
