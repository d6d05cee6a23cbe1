"""Plans a segment: the first planner that takes an equation plans it."""

from collections.abc import Sequence

from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.sweep import elementwise, general, labels, product, shape, tokens
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.plan import SweepContext, SweepPlan

# A new kind of equation gets a module with `takes` and `plan`, and a place in this table before
# `general`, which takes every equation.
PLANNERS = (elementwise, tokens, shape, product, labels, general)


def plan_sweep(
    context: SweepContext,
    equations: Sequence[tuple[Equation, tuple[int, ...]]],
    sources: Sequence[int],
    targets: Sequence[int],
) -> SweepPlan:
    """Plans a sweep over some equations, and computes the arrays that all coordinates share.

    Args:
      context: what all sweeps over the program read.
      equations: from `active`: each with the positions of its moving inputs.
      sources: the variables whose tangents are given.
      targets: the variables whose tangents the sweep returns.
    """
    builder = PlanBuilder(context, sources)
    for equation, free in equations:
        planner = next(p for p in PLANNERS if p.takes(builder, equation, free))
        planner.plan(builder, equation, free)
    return builder.finish(targets, len(equations))
