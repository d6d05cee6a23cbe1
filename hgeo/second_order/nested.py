"""Quadratic forms of a layer's Hessian by nested `jax.jvp` and `jax.grad`.

Each mode differentiates in the probed layer's weights only. So only the equations between the layer
and the loss are differentiated twice.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.products import hessian_times
from hgeo.second_order.quadratic_form import ProbePoints, QuadraticForm, QuadraticForms

PyTree = Any
Total = Callable[[PyTree], jax.Array]


def over_reverse(
    total: Total, params: PyTree, probe_points: ProbePoints, *, way: str
) -> QuadraticForms:
    """vᵀHv = ⟨v, Hv⟩, with Hv a derivative of the gradient, `FORWARD` or `REVERSE`."""

    def form(f, weights, tangent):
        return jnp.vdot(tangent, hessian_times(f, weights, tangent, way))

    return _for_each_layer(form, total, params, probe_points)


def forward_over_forward(total: Total, params: PyTree, probe_points: ProbePoints) -> QuadraticForms:
    """vᵀHv = d²/dε² f(w + ε v) at ε = 0: `jax.jvp` over `jax.jvp`, no backward pass."""

    def form(f, weights, tangent):
        slope = lambda w: jax.jvp(f, (w,), (tangent,))[1]
        return jax.jvp(slope, (weights,), (tangent,))[1]

    return _for_each_layer(form, total, params, probe_points)


def _for_each_layer(form, total, params, probe_points):
    forms: dict[str, QuadraticForm] = {}
    for name, chosen in probe_points.items():
        layer = chosen.layer
        f = lambda weights, layer=layer: total(layer.replace(params, weights))
        weights = layer.ravel(params)
        # Tangents are built from the weights, so that under shard_map both vary over the same axes.
        forms[name] = lambda point, f=f, weights=weights, chosen=chosen: form(
            f, weights, chosen.tangent(point, weights)
        )
    return QuadraticForms(forms, probe_points)
