"""Hessian-vector products of a function of one pytree, by jvp over grad or grad over grad."""

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
    """Computes one product Hv.

        `FORWARD`: ∂/∂ε ∇f(w + ε v) at ε = 0;   `REVERSE`: ∇⟨∇f, v⟩

    Args:
      f: a scalar function.
      point: w.
      step: v.
      way: `FORWARD`, or `REVERSE` if f has no forward derivative.
    """
    gradient = jax.grad(f)
    if way == FORWARD:
        return jax.jvp(gradient, (point,), (step,))[1]

    def slope(point):
        pairs = zip(jax.tree.leaves(gradient(point)), jax.tree.leaves(step), strict=True)
        return sum_of([jnp.vdot(gradient, step) for gradient, step in pairs])

    return jax.grad(slope)(point)


def hessian_map(f: Scalar, point: PyTree, way: str) -> Callable[[PyTree], PyTree]:
    """The function v -> Hv, linearised once; arguments as in `hessian_times`."""
    gradient = jax.grad(f)
    if way == FORWARD:
        return jax.linearize(gradient, point)[1]
    pullback = jax.vjp(gradient, point)[1]
    return lambda step: pullback(step)[0]
