"""What an adaptive optimizer sees: the curvature after its own diagonal preconditioner."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from hgeo.losses import Loss
from hgeo.static_leaves import is_array

PyTree = Any

# The fields that hold it in Optax's states, the one that is divided by first.
_FIELDS = ("nu_max", "nu", "sum_of_squares")


def preconditioner(
    opt_state: PyTree, *, eps: float = 1e-8, eps_root: float = 0.0, b2: float | None = None
) -> PyTree:
    """The diagonal P by which an adaptive optimizer divides, read from its Optax state.

        P = √(v̂ + eps_root) + eps,   v̂ = v / (1 − b2^t)  or v itself where b2 is None

    with v the second moment (Adam, RMSprop), the largest so far (AMSGrad) or the sum of squares
    (Adagrad). Entries of a diagonal in these coordinates are H_ii / P_ii.

    Args:
      opt_state: any Optax state, nested as it may be, with one second moment in it.
      eps: as the optimizer has it, outside the root.
      eps_root: inside the root.
      b2: the decay rate of a second moment that is corrected for its bias, as Adam's is.

    Returns:
      A pytree of the params' structure, shapes and dtypes, in the units of the gradient.

    Raises:
      ValueError: a state without a second moment (SGD, Lion) or with several; `b2` given for one
        that counts no steps, or before the first update.

    Example:
      >>> import optax
      >>> params = {"kernel": jnp.ones((2, 2))}
      >>> optimizer = optax.adam(1e-3)
      >>> _, state = optimizer.update(params, optimizer.init(params))
      >>> print(hgeo.preconditioner(state, b2=0.999)["kernel"][0].round(5))
      [1. 1.]

    Reference:
      Kingma, Ba. Adam: A Method for Stochastic Optimization. 2015.
    """
    found = [part for part in jax.tree.leaves(opt_state, is_leaf=_has_moment) if _has_moment(part)]
    if len(found) != 1:
        kinds = [type(part).__name__ for part in jax.tree.leaves(opt_state, is_leaf=_is_state)]
        raise ValueError(
            f"the optimizer's state must hold one second moment ({', '.join(_FIELDS)}), "
            f"not {len(found)}; it is made of {kinds}"
        )
    (state,) = found
    moment = next(getattr(state, name) for name in _FIELDS if name in state._fields)
    correction = 1.0
    if b2 is not None:
        if "count" not in state._fields:  # every tuple has a method of that name
            raise ValueError(f"b2={b2} was given, but {type(state).__name__} counts no steps")
        if not isinstance(state.count, Tracer) and state.count == 0:
            raise ValueError("before the first update there is no second moment to correct")
        steps = state.count.astype(jnp.float32)
        correction = -jnp.expm1(steps * math.log(b2))  # 1 − b2^t, of which float32 keeps few digits

    def diagonal(v):
        v = v / jnp.asarray(correction, v.dtype)
        return jnp.sqrt(v + eps_root) + eps

    return jax.tree.map(diagonal, moment)


def preconditioned(loss: Loss, diagonal: PyTree) -> Loss:
    """A loss whose Hessian is that of another one, preconditioned by a diagonal.

        P^(-1/2) H P^(-1/2)

    the Hessian in the coordinates √P w, in which the optimizer's step is a plain gradient step.
    Its spectrum, rows and diagonal are what the optimizer sees. Give it to any probe.

    Args:
      loss: `loss(params, batch)`.
      diagonal: P, a pytree of the params' structure and shapes, positive; `preconditioner` reads
        it from an optimizer's state. Leaves of the params that are not floating have one that is
        not used.

    Returns:
      `loss(params, batch)`, with the value of the other one.

    Example:
      >>> loss = lambda params, batch: jnp.sum(batch * params**2)
      >>> seen = hgeo.preconditioned(loss, jnp.array([1.0, 4.0]))
      >>> layers = hgeo.find_layers(jnp.ones(2), lambda path, leaf: True)
      >>> coordinates = hgeo.sample_coordinates(layers, 2, jax.random.key(0))
      >>> print(hgeo.sampled_diagonal(seen, jnp.ones(2), jnp.array([1.0, 4.0]), coordinates)[""])
      [2. 2.]

    Reference:
      Cohen et al. Adaptive Gradient Methods at the Edge of Stability. 2022.
    """

    def of_scaled(params, batch):
        def moved(leaf, own):
            if not (is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)):
                return leaf
            start = jax.lax.stop_gradient(leaf)
            return start + (leaf - start) * jax.lax.rsqrt(own.astype(leaf.dtype))

        return loss(jax.tree.map(moved, params, diagonal), batch)

    return of_scaled


def _has_moment(node: Any) -> bool:
    return _is_state(node) and any(name in node._fields for name in _FIELDS)


def _is_state(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")
