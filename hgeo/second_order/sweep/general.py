"""Plans equations of any other kind by JAX's derivatives of them."""

from typing import Any

import jax

from hgeo.second_order.jaxpr import Equation, is_inexact
from hgeo.second_order.one_hot import dense
from hgeo.second_order.summation import inner, sum_of
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import Tangents


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Takes every equation."""
    return True


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one equation with any number of outputs."""
    values = [builder.context.values[v] for v in equation.inputs]
    points = tuple(values[k] for k in free)
    function = equation.at(values, free)
    roots = tuple(builder.views[equation.inputs[k]].root for k in free)
    outs = [v for v, a in zip(equation.outputs, equation.avals, strict=True) if is_inexact(a)]
    moved = lambda tangents: tuple(dense(tangents.read(equation.inputs[k])) for k in free)
    once = lambda way, make: builder.once((way, equation, free), (), make)
    if builder.rules.is_linear(equation, free):
        push = once("push", lambda: jax.linearize(function, *points)[1])
        if len(outs) == 1:
            builder.new_root(
                outs[0], compute=lambda tangents: push(*moved(tangents))[0], needs=roots
            )
            return

        def step(tangents: Tangents):
            _store(tangents, outs, push(*moved(tangents)))

    else:
        # ⟨v̄, φ''[u̇, u̇]⟩ = ⟨u̇, d/dε φ'(u + ε u̇)ᵀ v̄⟩, which is linearised in the second u̇ here.
        adjoints = tuple(builder.context.adjoints[v] for v in outs)

        def with_pullback(*points):
            outputs, pullback = jax.vjp(function, *points)
            return outputs, pullback(adjoints)

        push = once("curve", lambda: jax.linearize(with_pullback, *points)[1])
        curvature = builder.unnamed_root(None)

        def step(tangents: Tangents):
            steps = moved(tangents)
            pushed, curved = push(*steps)
            _store(tangents, outs, pushed)
            products = [inner(c, s) for c, s in zip(curved, steps, strict=True)]
            tangents.store(curvature, sum_of(products))

        builder.terms.append(lambda tangents: dense(tangents.read_root(curvature)))
    for out in outs:
        builder.new_root(out)
    for root in roots:
        builder.mark_read(root)
    builder.steps.append(step)


def _store(tangents: Tangents, outs: list[int], pushed: Any) -> None:
    for out, tangent in zip(outs, pushed, strict=True):
        tangents.store(out, tangent)
