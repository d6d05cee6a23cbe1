"""Runs a planned sweep along one coordinate or direction."""

from collections.abc import Mapping

import jax

from hgeo.second_order.one_hot import Tangent
from hgeo.second_order.summation import quadratic, sum_of
from hgeo.second_order.sweep.plan import SweepPlan
from hgeo.second_order.sweep.tangents import Tangents


def run_sweep(
    plan: SweepPlan, sources: Mapping[int, Tangent]
) -> tuple[jax.Array, dict[int, Tangent]]:
    """Runs a plan: returns its equations' part of eᵀHe, a scalar, and the targets' tangents.

    Args:
      plan: from `plan_sweep`.
      sources: the tangents of the plan's sources, by variable.
    """
    tangents = Tangents(plan.views, plan.roots, plan.folded, sources)
    for step in plan.steps:
        step(tangents)
    parts = [term(tangents) for term in plan.terms]
    for (first, second), weight in plan.weights.items():
        parts.append(quadratic(weight, tangents.read_root(first), tangents.read_root(second)))
    return sum_of(parts), {variable: tangents.read(variable) for variable in plan.targets}
