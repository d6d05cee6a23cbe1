"""Compares a preconditioner with the updates of its optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.curvature.second_moments import number_of_updates, without_momenta
from hgeo.params.leaf_paths import leaves_by_path

PyTree = Any

_LARGEST, _DECADES = 1e-2, 2.0

# An optimizer may skip gradients for ever.
_MOST_MINI_STEPS = 10_000


def differences(
    optimizer: Any, params: PyTree, diagonal_of: Callable[[PyTree], PyTree]
) -> dict[str, str]:
    """Leaves whose updates the optimizer does not divide by the P of its state, and why.

    With momenta set to zero and P even in the gradient, the updates u(g) and u(−g) from a state
    differ by c g / P. Weight decay cancels; c may differ between leaves, by their learning rates.
    The gradients are artificial, so the result depends on the shapes of the params only.

    Args:
      optimizer: an Optax optimizer.
      params: the params that it trains.
      diagonal_of: state -> P, with an `optax.MaskedNode` for a leaf that has none.
    """
    import optax

    update = optax.with_extra_args_support(optimizer).update

    def respond(params):
        first, second = _gradients(params, 0.755, 0.3), _gradients(params, 0.618, 0.0)
        more = {"value": jnp.float32(1.0), "value_fn": lambda params: jnp.float32(1.0)}

        def mini_step(g, state):
            return update(g, state, params, grad=g, obj_fn=more["value_fn"], **more)

        step = _whole_step(mini_step)
        _, state = step(first, optimizer.init(params))
        state = without_momenta(state)
        forward, after = step(second, state)
        backward, _ = step(jax.tree.map(jnp.negative, second), state)
        moved = jax.tree.map(lambda a, b: a.astype(jnp.float32) - b, forward, backward)
        return moved, second, diagonal_of(after)

    with jax.numpy_dtype_promotion("standard"):
        moved, gradient, diagonal = jax.jit(respond)(params)
    moved, gradient = leaves_by_path(moved), leaves_by_path(gradient)
    still = {path for path, own in moved.items() if not np.any(own)}
    if len(still) == len(moved):  # a learning rate of zero at first
        return {}
    by_path = leaves_by_path(diagonal)
    if not by_path.keys() <= gradient.keys():
        reason = "the moments of the optimizer's state are not of the params' structure"
        return dict.fromkeys(gradient, reason)
    wrong = {}
    for path, own in by_path.items():
        if path in still:
            wrong[path] = "the optimizer does not train it"
        if path in still or not np.any(gradient[path]):
            continue
        factor = np.abs(np.asarray(moved[path], np.float64) * np.asarray(own, np.float64))
        factor /= np.abs(np.asarray(gradient[path], np.float64))
        narrow = jnp.finfo(own.dtype).bits < 32
        if not factor.max() - factor.min() <= (5e-2 if narrow else 1e-3) * factor.max():
            wrong[path] = (
                "the optimizer does not divide by the P that its state gives: its update times P, "
                f"over the gradient, varies from {factor.min():.3g} to {factor.max():.3g}; check "
                "kind=, eps= and eps_root="
            )
    return wrong


def _whole_step(mini_step: Callable[[PyTree, PyTree], Any]) -> Callable[[PyTree, PyTree], Any]:
    """A step with one gradient until an update of it: `optax.MultiSteps` accumulates several."""

    def step(gradient, state):
        before = number_of_updates(state)
        first = mini_step(gradient, state)
        if before is None:
            return first
        again = lambda carry: (carry[0] + 1, mini_step(gradient, carry[1][1]))
        is_open = lambda carry: (
            (number_of_updates(carry[1][1]) == before) & (carry[0] < _MOST_MINI_STEPS)
        )
        return jax.lax.while_loop(is_open, again, (1, first))[1]

    return step


def _gradients(params: PyTree, step: float, start: float) -> PyTree:
    """Artificial gradients of both signs, small enough for usual clipping, over two decades."""

    def gradient(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.zeros_like(leaf)
        number = jnp.arange(leaf.size, dtype=jnp.float32)
        size = _LARGEST * 10.0 ** (-_DECADES * ((start + step * number) % 1.0))
        return (size * (-1.0) ** number).reshape(leaf.shape).astype(leaf.dtype)

    return jax.tree.map(gradient, jax.tree.map(jnp.asarray, params))
