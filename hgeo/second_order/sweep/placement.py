"""Equations that only say where an array lies on a mesh: its tangent stays what it is."""

from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.one_hot import OneHot
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import Tangents

PLACEMENTS = {"reshard", "sharding_constraint"}


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Whether its output is its input, on other devices."""
    return equation.name in PLACEMENTS


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one equation; a tangent of one weight is not written out to be placed."""
    out, source = equation.outputs[0], equation.inputs[0]
    root, factor = builder.views[source]
    if factor is not None or builder.roots[root].product is not None:
        builder.views[out] = builder.views[source]
        return

    def compute(tangents: Tangents):
        moved = tangents.read(source)
        return moved if isinstance(moved, OneHot) else equation.apply(moved)[0]

    builder.new_root(out, compute=compute, needs=(root,))
