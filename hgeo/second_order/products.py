"""Hessian-vector products of a function of one pytree, by either way that there is."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.summation import sum_of

PyTree = Any
Scalar = Callable[[PyTree], jax.Array]

FORWARD = "forward_over_reverse"
REVERSE = "reverse_over_reverse"


def hessian_times(f: Scalar, point: PyTree, step: PyTree, way: str) -> PyTree:
    """One product Hv.

        ∂/∂ε ∇f(w + ε v) at ε = 0, by a forward derivative;   ∇⟨∇f, v⟩, by a reverse one

    Args:
      f: a scalar function.
      point: w.
      step: v.
      way: `FORWARD`, or `REVERSE` where a function has no forward derivative.
    """
    gradient = jax.grad(f)
    if way == FORWARD:
        return jax.jvp(gradient, (point,), (step,))[1]

    def slope(point):
        pairs = zip(jax.tree.leaves(gradient(point)), jax.tree.leaves(step), strict=True)
        return sum_of([jnp.vdot(own, step) for own, step in pairs])

    return jax.grad(slope)(point)


def hessian_map(f: Scalar, point: PyTree, way: str) -> Callable[[PyTree], PyTree]:
    """v -> Hv, linearised once for all; arguments as in `hessian_times`."""
    gradient = jax.grad(f)
    if way == FORWARD:
        return jax.linearize(gradient, point)[1]
    pullback = jax.vjp(gradient, point)[1]
    return lambda step: pullback(step)[0]
