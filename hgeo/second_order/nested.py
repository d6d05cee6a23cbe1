"""Nested automatic differentiation: the three plain ways to a quadratic form of a layer's Hessian.

All differentiate the probed layer alone and close over every other weight, so that only what lies
above the layer is differentiated twice.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.products import FORWARD, REVERSE, hessian_times
from hgeo.second_order.quadratic_form import Along, Form, Forms

PyTree = Any
Total = Callable[[PyTree], jax.Array]


def forward_over_reverse(
    total: Total,
    params: PyTree,
    along: Along,
) -> Forms:
    """vᵀHv = ⟨v, ∂/∂ε ∇f(w + ε v)⟩ at ε = 0: `jax.jvp` over `jax.grad`."""

    def form(f, weights, tangent):
        return jnp.vdot(tangent, hessian_times(f, weights, tangent, FORWARD))

    return _each(form, total, params, along)


def reverse_over_reverse(
    total: Total,
    params: PyTree,
    along: Along,
) -> Forms:
    """vᵀHv = ⟨v, ∇⟨∇f(w), v⟩⟩: `jax.grad` over `jax.grad`, no forward derivative."""

    def form(f, weights, tangent):
        return jnp.vdot(tangent, hessian_times(f, weights, tangent, REVERSE))

    return _each(form, total, params, along)


def forward_over_forward(
    total: Total,
    params: PyTree,
    along: Along,
) -> Forms:
    """vᵀHv = d²/dε² f(w + ε v) at ε = 0: `jax.jvp` over `jax.jvp`, no backward pass."""

    def form(f, weights, tangent):
        slope = lambda w: jax.jvp(f, (w,), (tangent,))[1]
        return jax.jvp(slope, (weights,), (tangent,))[1]

    return _each(form, total, params, along)


def _each(form, total, params, along):
    forms: dict[str, Form] = {}
    for name, chosen in along.items():
        layer = chosen.layer
        f = lambda weights, layer=layer: total(layer.replace(params, weights))
        weights = layer.ravel(params)
        # Tangents are built from the weights, so that under shard_map they vary as these do.
        forms[name] = lambda point, f=f, weights=weights, chosen=chosen: form(
            f, weights, chosen.tangent(point, weights)
        )
    return Forms(forms, along)
