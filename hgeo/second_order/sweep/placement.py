"""Plans equations that only place an array on a mesh: its tangent does not change."""

from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.one_hot import OneHot
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import Tangents

PLACEMENTS = {"reshard", "sharding_constraint"}


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Whether the equation only moves its input to other devices."""
    return equation.name in PLACEMENTS


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one equation; a one-hot tangent stays one-hot and is not placed."""
    out, source = equation.outputs[0], equation.inputs[0]
    root, factor = builder.views[source]
    if factor is not None or builder.roots[root].product is not None:
        builder.views[out] = builder.views[source]
        return

    def compute(tangents: Tangents):
        moved = tangents.read(source)
        return moved if isinstance(moved, OneHot) else equation.apply(moved)[0]

    builder.new_root(out, compute=compute, needs=(root,))
