"""Plans elementwise equations: the output's tangent is a sum of multiples of roots'."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.one_hot import cast, dense, scaled
from hgeo.second_order.summation import sum_of
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import Tangents, View

# Their second derivative is finite wherever the value is, so no 0·∞ enters the matrix G of a wide
# product.
BOUNDED = {"exp", "mul", "square", "tanh", "logistic", "erf", "sin", "cos"}

# With a moving first operand and constant others, the tangent passes unchanged.
_PASSED = {"add", "add_any", "sub", "copy", "copy_p", "convert_element_type"}

# The positions of an equation's moving inputs, by the root that their tangents are multiples of.
Groups = Mapping[int, Sequence[int]]


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Whether each entry of the output depends on one entry of each moving input."""
    return builder.rules.is_elementwise(equation, free)


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one equation, whose inputs at `free` move."""
    out, shape, dtype = equation.outputs[0], equation.avals[0].shape, equation.avals[0].dtype
    groups: dict[int, list[int]] = {}
    for k in free:
        groups.setdefault(builder.view_as(equation.inputs[k], shape).root, []).append(k)
    changes_dtype = any(builder.roots[root].dtype != dtype for root in groups)
    if equation.name in _PASSED and free == (0,) and not changes_dtype:
        builder.views[out] = builder.view_as(equation.inputs[0], shape)
        return

    factors = {root: _slope(builder, equation, members) for root, members in groups.items()}
    if not builder.rules.is_linear(equation, free):
        _add_curvature(builder, equation, groups)
    if len(groups) == 1 and not changes_dtype:
        ((root, factor),) = factors.items()
        builder.views[out] = View(root, factor)
        return

    def compute(tangents: Tangents):
        parts = [
            dense(scaled(cast(tangents.read_root(root), dtype), factor))
            for root, factor in factors.items()
        ]
        return sum_of(parts)

    builder.new_root(
        out,
        compute=compute,
        needs=tuple(groups),
        summands=None if changes_dtype else factors,
    )


def _add_curvature(builder: PlanBuilder, equation: Equation, groups: Groups) -> None:
    """Adds the weights of an elementwise equation's second-order terms."""
    adjoint = builder.context.adjoints[equation.outputs[0]]
    is_bounded = equation.name in BOUNDED
    if equation.name == "integer_pow":
        is_bounded = equation.params["y"] >= 2
    roots = list(groups)
    for n, first in enumerate(roots):
        for second in roots[n:]:
            if first == second and equation.name == "mul" and len(groups[first]) == 1:
                continue
            if first == second:
                builder.note_origin(first, (equation.outputs[0], tuple(groups[first])))
            own, other = groups[first], groups[second]

            def make(own=own, other=other, times=1.0 if first == second else 2.0):
                weight = times * _second_derivative(builder, equation, own, other) * adjoint
                return jnp.where(adjoint == 0, 0.0, weight)

            key = ("curve", equation, tuple(own), tuple(other))
            read = _factors(builder, equation, [*own, *other])
            builder.add_weight(first, second, builder.once(key, read, make), is_bounded)


def _slope(builder: PlanBuilder, equation: Equation, members: Sequence[int]) -> jax.Array:
    """The output's derivative along a root's tangent of ones, through the inputs at `members`."""

    def make():
        read = _values(builder, equation, members)
        points = tuple(read[k] for k in members)
        directions = _directions(builder, equation, members)
        return jax.jvp(equation.at(read, members), points, directions)[1][0]

    key = ("slope", equation, tuple(members))
    return builder.once(key, _factors(builder, equation, members), make)


def _second_derivative(
    builder: PlanBuilder, equation: Equation, inner: Sequence[int], outer: Sequence[int]
) -> jax.Array:
    """The output's second derivative along two roots' tangents of ones, through their inputs."""
    read = _values(builder, equation, [*inner, *outer])
    inner_directions = _directions(builder, equation, inner)

    def slope(*moved):
        full = list(read)
        for k, value in zip(outer, moved, strict=True):
            full[k] = value
        points = tuple(full[k] for k in inner)
        return jax.jvp(equation.at(full, inner), points, inner_directions)[1][0]

    points = tuple(read[k] for k in outer)
    return jax.jvp(slope, points, _directions(builder, equation, outer))[1]


def _factors(builder: PlanBuilder, equation: Equation, members: Sequence[int]) -> list[Any]:
    shape = equation.avals[0].shape
    return [builder.view_as(equation.inputs[k], shape).factor for k in members]


def _directions(builder: PlanBuilder, equation: Equation, members: Sequence[int]):
    """The tangents of the inputs at `members` when their root's tangent is ones."""
    shape = equation.avals[0].shape
    factors = _factors(builder, equation, members)
    points = [builder.value_as(equation.inputs[k], shape) for k in members]
    return tuple(jnp.ones_like(x) if c is None else c for x, c in zip(points, factors, strict=True))


def _values(builder: PlanBuilder, equation: Equation, members: Sequence[int]) -> list[Any]:
    """The inputs' values; those at `members` are broadcast to the output's shape."""
    shape = equation.avals[0].shape
    return [
        builder.value_as(v, shape) if k in members else builder.context.values[v]
        for k, v in enumerate(equation.inputs)
    ]
