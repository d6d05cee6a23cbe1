"""Matrix products that sum over several axes, rewritten to sum over one."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from hgeo.second_order.jaxpr import as_equation


def with_single_contractions(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rewrites the matrix products of a function that sum over several axes to sum over one.

    The gradient of W in X W, with X of shape (B, T, D), is a sum over B and T. For such a product
    XLA's CPU compiler first writes out the transpose of the output's cotangent, (B, T, K), which
    can take several times as long as the product. For one merged axis (B T) it writes no
    transpose. Values are equal to rounding. Bodies of calls and loops stay as they are.

    Args:
      function: of pytrees of arrays, to a pytree of arrays.
    """

    def call(*arguments):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        outputs = _run(closed, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return call


def _run(closed: core.ClosedJaxpr, arguments: list[Any]) -> list[Any]:
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else values[atom]
    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name == "dot_general" and _sums_leading_axes(eqn.params):
            outputs = [_joined(*inputs, **eqn.params)]
        else:
            outputs = as_equation(eqn).apply(*inputs)
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _sums_leading_axes(params: dict[str, Any]) -> bool:
    """Whether the summed axes are the first ones of both operands, several and in order."""
    (left, right), batch = params["dimension_numbers"]
    leading = tuple(range(len(left)))
    return len(left) > 1 and tuple(left) == tuple(right) == leading and not batch[0]


def _joined(left: jax.Array, right: jax.Array, *, dimension_numbers: Any, **params: Any):
    number = len(dimension_numbers[0][0])
    rows = math.prod(left.shape[:number])
    join = lambda array: array.reshape(rows, *array.shape[number:])
    numbers = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(join(left), join(right), numbers, **params)
