"""Counts the floating-point operations of a traced function from its equations."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from hgeo.second_order.memory import bodies


def operations(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of one call; an equation that is no product counts its outputs."""
    return _operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def _operations(jaxpr: core.Jaxpr) -> float:
    return sum(map(_operations_of_equation, jaxpr.eqns))


def _operations_of_equation(eqn: core.JaxprEqn) -> float:
    name, params = eqn.primitive.name, eqn.params
    shapes: list[Any] = [getattr(var.aval, "shape", ()) for var in eqn.invars]
    size = float(sum(math.prod(getattr(var.aval, "shape", ())) for var in eqn.outvars))
    if name == "dot_general":
        (contract, _), _ = params["dimension_numbers"]
        return 2.0 * size * math.prod(shapes[0][axis] for axis in contract)
    if name == "conv_general_dilated":
        kernel, numbers = shapes[1], params["dimension_numbers"]
        return 2.0 * size * math.prod(kernel) / kernel[numbers.rhs_spec[0]]
    inner = [_operations(body) for body in bodies(params)]
    if not inner:
        return size
    # A loop of unknown length counts once; of a condition's branches the costliest counts.
    return float(params.get("length", 1)) * (max(inner) if name == "cond" else sum(inner))
