"""Our optimizers against `torch.optim`, fed one and the same sequence of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from hgeo.optimizers import OPTIMIZERS, make_optimizer

STEPS = 50
RATE = 0.02

# PyTorch's class and arguments, and ours.
CASES = {
    "sgd": (torch.optim.SGD, {}, {}),
    "sgdm": (torch.optim.SGD, {"momentum": 0.9}, {"momentum": 0.9}),
    "adam": (
        torch.optim.Adam,
        {"betas": (0.9, 0.98), "eps": 1e-9},
        {"b1": 0.9, "b2": 0.98, "eps": 1e-9},
    ),
    "adamw": (torch.optim.AdamW, {}, {}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}, {}),
    "adagrad": (torch.optim.Adagrad, {}, {}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.9}, {"momentum": 0.9}),
}
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def gradients_and_start():
    """Coordinates of very different scales, with signs that change and zeros now and then."""
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-6, 2, size=12)
    grads = rng.normal(0.3, 1.0, size=(STEPS, 12)) * scale
    grads *= np.linspace(2.0, 0.1, STEPS)[:, None]  # so that the largest v lies in the past
    grads[rng.random(grads.shape) < 0.1] = 0.0
    grads[:, 0] = 0.0
    return grads, rng.normal(size=12)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_follows_pytorch(name, weight_decay, dtype):
    original, theirs, ours = CASES[name]
    grads, start = gradients_and_start()
    weight = torch.nn.Parameter(torch.tensor(start, dtype=getattr(torch, dtype)))
    reference = original([weight], lr=RATE, weight_decay=weight_decay, **theirs)

    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        arguments = {"learning_rate": RATE, "weight_decay": weight_decay, **ours}
        optimizer = make_optimizer(name, arguments)
        params = jnp.asarray(start, dtype)
        state = optimizer.init(params)
        for grad in grads:
            updates, state = optimizer.update(jnp.asarray(grad, dtype), state, params)
            params = optax.apply_updates(params, updates)
            weight.grad = torch.tensor(grad, dtype=weight.dtype)
            reference.step()
            np.testing.assert_allclose(
                params, weight.detach().numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
            )
    assert np.abs(np.asarray(params) - start)[1:].max() > 0.1 * RATE


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "amsgrad"])
def test_optax_own_definition_differs(name):
    """What the docstrings say of Optax is so: with its defaults it goes elsewhere."""
    grads, start = gradients_and_start()
    with jax.numpy_dtype_promotion("standard"):
        ends = []
        for optimizer in (
            make_optimizer(name, {"learning_rate": RATE}),
            getattr(optax, name)(RATE),
        ):
            params = jnp.asarray(start, jnp.float32)
            state = optimizer.init(params)
            for grad in grads:
                updates, state = optimizer.update(jnp.asarray(grad, jnp.float32), state, params)
                params = optax.apply_updates(params, updates)
            ends.append(params)
    assert np.abs(ends[0] - ends[1]).max() > 1e-3
