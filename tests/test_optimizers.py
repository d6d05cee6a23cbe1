import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.optimizers import OPTIMIZERS, make_optimizer

ARGUMENTS = {
    "sgd": {"learning_rate": 0.05},
    "sgdm": {"learning_rate": 0.05, "momentum": 0.8},
    "adam": {"learning_rate": 0.05, "b1": 0.9, "b2": 0.98, "eps": 1e-9},
    "adagrad": {"learning_rate": 0.05, "eps": 1e-10},
}


def reference(name, grads, w, a):
    """The optimizers as PyTorch's documentation defines them, in float64."""
    m = v = np.zeros_like(w)
    lr = a["learning_rate"]
    for t, g in enumerate(grads, start=1):
        if name == "sgd":
            w = w - lr * g
        elif name == "sgdm":
            m = a["momentum"] * m + g
            w = w - lr * m
        elif name == "adam":
            m = a["b1"] * m + (1 - a["b1"]) * g
            v = a["b2"] * v + (1 - a["b2"]) * g**2
            corrected = np.sqrt(v / (1 - a["b2"] ** t)) + a["eps"]
            w = w - lr * m / (1 - a["b1"] ** t) / corrected
        elif name == "adagrad":
            v = v + g**2
            w = w - lr * g / (np.sqrt(v) + a["eps"])
    return w


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_follows_its_definition(name):
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(50, 7)) * 10.0 ** rng.integers(-5, 2, size=7)[None]
    start = rng.normal(size=7)
    with jax.numpy_dtype_promotion("standard"):
        optimizer = make_optimizer(name, ARGUMENTS[name])
        w = jnp.asarray(start, jnp.float32)
        state = optimizer.init(w)
        for g in grads:
            updates, state = optimizer.update(jnp.asarray(g, jnp.float32), state, w)
            w = w + updates
    expected = reference(name, grads, start, ARGUMENTS[name])
    np.testing.assert_allclose(w, expected, rtol=1e-5, atol=1e-5)
