"""Softmax: recognised by the derivative rule that it carries."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.jaxpr import Equation


def softmax_axis(equation: Equation, avals: Mapping[int, Any]) -> int | tuple[int, ...] | None:
    """The axis of an equation that is `jax.nn.softmax`, or None where it is anything else.

    `jax.nn.softmax` is a `custom_jvp` function. It is taken for one only if its derivative rule
    is, equation by equation, that of `jax.nn.softmax` itself over the same axis.
    """
    if equation.name != "custom_jvp_call" or len(equation.inputs) != 1:
        return None
    aval = avals[equation.inputs[0]]
    if not jnp.issubdtype(aval.dtype, jnp.floating) or equation.avals[0].shape != aval.shape:
        return None
    axes = {
        eqn.params["axes"]
        for eqn in equation.params["call_jaxpr"].jaxpr.eqns
        if eqn.primitive.name == "reduce_sum"
    }
    if len(axes) != 1:
        return None
    (axis,) = axes
    rule = lambda function: str(
        jax.make_jaxpr(lambda x, dx: jax.jvp(function, (x,), (dx,)))(aval, aval)
    )
    same = rule(lambda x: jax.nn.softmax(x, axis=axis)) == rule(lambda x: equation.apply(x)[0])
    return axis if same else None
