"""Plans products of two arrays (`dot_general`) with one or two moving operands."""

from collections.abc import Mapping
from typing import Any

from hgeo.second_order import one_hot
from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.one_hot import dense
from hgeo.second_order.summation import inner
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import Tangents
from hgeo.second_order.wide_product import WideProduct

_PARAMS = ("dimension_numbers", "precision", "preferred_element_type")


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Whether the equation is `dot_general`."""
    return equation.name == "dot_general"


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one product: linear in one moving operand, bilinear in two."""
    out = equation.outputs[0]
    left, right = equation.inputs
    values = [builder.context.values[v] for v in (left, right)]
    params = {name: equation.params[name] for name in _PARAMS if name in equation.params}
    dot = lambda a, b: one_hot.dot_general(a, b, **params)
    roots = tuple(builder.views[equation.inputs[k]].root for k in free)
    if len(free) == 1:

        def compute(tangents: Tangents):
            moved = tangents.read(equation.inputs[free[0]])
            return dot(moved, values[1]) if free[0] == 0 else dot(values[0], moved)

        product = wide_product(equation, free, builder.context.values)
        builder.new_root(out, compute=compute, needs=roots, product=product)
        return

    builder.new_root(out)
    adjoint = builder.context.adjoints[out]
    for root in roots:
        builder.mark_read(root)

    def step(tangents: Tangents):
        a, b = tangents.read(left), tangents.read(right)
        tangents.store(out, dense(dot(a, values[1])) + dense(dot(values[0], b)))

    def term(tangents: Tangents):
        a, b = tangents.read(left), tangents.read(right)
        return 2.0 * inner(adjoint, dense(dot(a, b)))

    builder.terms.append(term)
    builder.steps.append(step)


def wide_product(
    equation: Equation, free: tuple[int, ...], values: Mapping[int, Any]
) -> WideProduct | None:
    """The equation as a `WideProduct`; `None` if it is none."""
    (contract, batch) = equation.params["dimension_numbers"]
    left, right = (values[v] for v in equation.inputs)
    if free != (0,) or right.ndim != 2 or batch[0] or left.dtype != right.dtype:
        return None
    if tuple(contract[0]) != (left.ndim - 1,) or equation.avals[0].dtype != right.dtype:
        return None
    matrix = right if contract[1][0] == 0 else right.T
    return WideProduct(equation.inputs[0], matrix) if matrix.shape[1] > matrix.shape[0] else None
