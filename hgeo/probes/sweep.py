"""One layer's tangent sweep: what can be computed before it, and what each coordinate costs.

A variable's tangent is kept as a factor times the tangent of a *root*, du = c ∘ dr, for as long as
only elementwise equations lie between them. Factors, and the weights of every quadratic term

    Σ_k ⟨ v̄_k , φ_k''[u̇, u̇] ⟩ = Σ_{r,s} ⟨ W_rs , dr ∘ ds ⟩ + (terms of other equations),

do not depend on the coordinate, so they are computed once; a chain such as GELU then costs each
coordinate one product and one sum, whatever its length.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.probes import tangents
from hgeo.probes.program import FLAT, Equation, Program, is_inexact, moving
from hgeo.probes.second_order import Rules
from hgeo.probes.softmax import softmax_axis
from hgeo.probes.tangents import OneHot, Tangent, dense, scaled

State = dict[int, Tangent]


def active(program: Program, needed: set[int], sources: Sequence[int]):
    """The equations that move with `sources` and move the output: each with what moves in it.

    Returns:
      A list of pairs: the equation, and the positions of its inputs that move.
    """
    found = moving(program, sources) & needed
    pairs = []
    for equation in program.equations:
        free = tuple(k for k, v in enumerate(equation.inputs) if v in found)
        if free and equation.name not in FLAT and needed.intersection(equation.outputs):
            pairs.append((equation, free))
    return pairs


class Sweep:
    """A plan for the tangent sweeps of one layer; call it with the tangents of its leaves."""

    def __init__(
        self,
        rules: Rules,
        equations: Sequence[tuple[Equation, tuple[int, ...]]],
        values: Mapping[int, Any],
        adjoints: Mapping[int, Any],
        sources: Sequence[int],
    ):
        """Computes all that the coordinates share.

        Args:
          rules: of the program.
          equations: from `active`.
          values: of every variable.
          adjoints: of the outputs of every equation that is not linear in what moves.
          sources: the layer's leaves among the program's inputs.
        """
        self._rules, self._values, self._adjoints = rules, values, adjoints
        self._view: dict[int, tuple[int, Any]] = {source: (source, None) for source in sources}
        self._steps: list[Callable[[State], None]] = []
        self._terms: list[Callable[[State], jax.Array]] = []
        self._weights: dict[tuple[int, int], Any] = {}
        for equation, free in equations:
            self._plan(equation, free)

    def __call__(self, sources: Mapping[int, Tangent]) -> jax.Array:
        """eᵀHe for the tangent e whose parts are given by input; a scalar."""
        state = dict(sources)
        for step in self._steps:
            step(state)
        parts = [term(state) for term in self._terms]
        parts += [_quadratic(w, state[r], state[s]) for (r, s), w in self._weights.items()]
        return sum_of(parts)

    def _tangent(self, state: State, variable: int) -> Tangent:
        root, factor = self._view[variable]
        return scaled(state[root], factor)

    def _new_root(self, variable: int):
        self._view[variable] = (variable, None)

    def _add_weight(self, first: int, second: int, weight):
        key = (min(first, second), max(first, second))
        self._weights[key] = weight + self._weights[key] if key in self._weights else weight

    def _plan(self, equation: Equation, free: tuple[int, ...]):
        if self._rules.is_elementwise(equation, free):
            self._plan_elementwise(equation, free)
        elif equation.name in _SHAPED and len(free) == 1:
            self._plan_shaped(equation)
        elif equation.name == "dot_general":
            self._plan_product(equation, free)
        elif (axis := softmax_axis(equation, self._rules.avals)) is not None:
            self._plan_softmax(equation, axis)
        else:
            self._plan_any(equation, free)

    def _plan_elementwise(self, equation, free):
        out = equation.outputs[0]
        groups: dict[int, list[int]] = {}
        for k in free:
            groups.setdefault(self._view[equation.inputs[k]][0], []).append(k)
        dtype = self._rules.avals[out].dtype
        narrow = any(self._rules.avals[root].dtype != dtype for root in groups)
        if equation.name in _PASSED and len(free) == 1 and free[0] == 0 and not narrow:
            self._view[out] = self._view[equation.inputs[0]]
            return

        linear = self._rules.is_linear(equation, free)
        slopes = {root: self._along(equation, members) for root, members in groups.items()}
        factors = {root: slope(self._values) for root, slope in slopes.items()}
        if not linear:
            adjoint = self._adjoints[out]
            roots = list(groups)
            for n, first in enumerate(roots):
                for second in roots[n:]:
                    if first == second and equation.name == "mul" and len(groups[first]) == 1:
                        continue
                    curve = self._twice(equation, groups, first, second)
                    twice = 1.0 if first == second else 2.0
                    weight = twice * curve * adjoint
                    self._add_weight(first, second, jnp.where(adjoint == 0, 0.0, weight))
        if len(groups) == 1 and not narrow:
            root = next(iter(groups))
            self._view[out] = (root, factors[root])
            return

        def step(state):
            parts = [
                dense(scaled(state[root].astype(dtype), factor))
                if not isinstance(state[root], OneHot)
                else dense(scaled(_cast(state[root], dtype), factor))
                for root, factor in factors.items()
            ]
            state[out] = sum_of(parts)

        self._steps.append(step)
        self._new_root(out)

    def _directions(self, equation, members):
        factors = [self._view[equation.inputs[k]][1] for k in members]
        points = [self._values[equation.inputs[k]] for k in members]
        return tuple(
            jnp.ones_like(x) if c is None else c for x, c in zip(points, factors, strict=True)
        )

    def _along(self, equation, members):
        """The derivative of an elementwise equation when one root's tangent is all ones."""
        directions = self._directions(equation, members)

        def slope(values):
            read = [values[v] for v in equation.inputs]
            points = tuple(read[k] for k in members)
            return jax.jvp(equation.at(read, members), points, directions)[1][0]

        return slope

    def _twice(self, equation, groups, first, second):
        """Its second derivative along the tangents of two roots."""
        inner, outer = groups[first], groups[second]
        read = [self._values[v] for v in equation.inputs]
        inner_directions = self._directions(equation, inner)

        def slope(*moved):
            full = list(read)
            for k, value in zip(outer, moved, strict=True):
                full[k] = value
            points = tuple(full[k] for k in inner)
            return jax.jvp(equation.at(full, inner), points, inner_directions)[1][0]

        points = tuple(read[k] for k in outer)
        return jax.jvp(slope, points, self._directions(equation, outer))[1]

    def _plan_shaped(self, equation):
        out, source = equation.outputs[0], equation.inputs[0]
        apply = _SHAPED[equation.name]

        def step(state):
            state[out] = apply(self._tangent(state, source), equation.params)

        self._steps.append(step)
        self._new_root(out)

    def _plan_product(self, equation, free):
        out = equation.outputs[0]
        left, right = equation.inputs
        values = [self._values[v] for v in (left, right)]
        dot = lambda a, b: tangents.dot_general(a, b, **_product_params(equation.params))
        if len(free) == 1:

            def step(state):
                moved = self._tangent(state, equation.inputs[free[0]])
                state[out] = dot(moved, values[1]) if free[0] == 0 else dot(values[0], moved)

        else:
            adjoint = self._adjoints[out]

            def step(state):
                a, b = self._tangent(state, left), self._tangent(state, right)
                state[out] = dense(dot(a, values[1])) + dense(dot(values[0], b))

            def term(state):
                a, b = self._tangent(state, left), self._tangent(state, right)
                return 2.0 * _inner(adjoint, dense(dot(a, b)))

            self._terms.append(term)
        self._steps.append(step)
        self._new_root(out)

    def _plan_softmax(self, equation, axis):
        # y = softmax(x): dy = y t, t = dx − Σ y dx; ⟨v̄, d²y⟩ = Σ y (v̄ − Σ y v̄) t².
        out, source = equation.outputs[0], equation.inputs[0]
        y, adjoint = self._values[out], self._adjoints[out]
        root = -1 - out

        def step(state):
            moved = dense(self._tangent(state, source))
            state[root] = moved - jnp.sum(y * moved, axis=axis, keepdims=True)

        self._steps.append(step)
        self._view[out] = (root, y)
        weight = y * (adjoint - jnp.sum(y * adjoint, axis=axis, keepdims=True))
        self._add_weight(root, root, weight)

    def _plan_any(self, equation, free):
        read = [self._values[v] for v in equation.inputs]
        points = tuple(read[k] for k in free)
        function = equation.at(read, free)
        outs = [v for v, a in zip(equation.outputs, equation.avals, strict=True) if is_inexact(a)]
        moved = lambda state: tuple(dense(self._tangent(state, equation.inputs[k])) for k in free)
        if self._rules.is_linear(equation, free):
            push = jax.linearize(function, *points)[1]

            def step(state):
                state.update(zip(outs, push(*moved(state)), strict=True))

        else:
            # ⟨v̄, φ''[u̇, u̇]⟩ = ⟨u̇, d/dε φ'(u + ε u̇)ᵀ v̄⟩: all but the linear part is done here.
            adjoints = tuple(self._adjoints[v] for v in outs)

            def with_pullback(*points):
                outputs, pullback = jax.vjp(function, *points)
                return outputs, pullback(adjoints)

            push = jax.linearize(with_pullback, *points)[1]
            curve = -1 - equation.outputs[0]

            def step(state):
                steps = moved(state)
                pushed, curved = push(*steps)
                state.update(zip(outs, pushed, strict=True))
                state[curve] = sum_of([_inner(c, s) for c, s in zip(curved, steps, strict=True)])

            self._terms.append(lambda state: state[curve])
        self._steps.append(step)
        for out in outs:
            self._new_root(out)


# First operand plus or minus something that is held: the tangent is passed on as it is.
_PASSED = {"add", "add_any", "sub", "copy", "copy_p", "convert_element_type"}

_SHAPED = {
    "reduce_sum": lambda tangent, params: tangents.reduce_sum(tangent, params["axes"]),
    "transpose": lambda tangent, params: tangents.transpose(tangent, params["permutation"]),
    "reshape": lambda tangent, params: tangents.reshape(tangent, params["new_sizes"]),
    "squeeze": lambda tangent, params: tangents.reduce_sum(tangent, params["dimensions"]),
}


def _product_params(params):
    names = ("dimension_numbers", "precision", "preferred_element_type", "out_sharding")
    return {name: params[name] for name in names if name in params}


def _cast(tangent, dtype):
    return tangent.with_values(tangent.values.astype(dtype))


def _quadratic(weight, first, second):
    """⟨weight, first ∘ second⟩, zero where a tangent is zero even if the weight is infinite."""
    if isinstance(first, OneHot) and first is second:
        weight, first = first.at(weight), first.values
        second = first
    first, second = dense(first), dense(second)
    product = first * second
    return total(jnp.where(product == 0, 0.0, weight * product))


def _inner(first, second):
    product = jnp.where(second == 0, 0.0, first * second)
    return total(jnp.real(product))


def total(array: jax.Array) -> jax.Array:
    """The sum of all entries, last axis first: one long sum loses digits in float32."""
    if array.dtype in (jnp.bfloat16, jnp.float16):
        array = array.astype(jnp.float32)
    if array.ndim > 1:
        array = jax.lax.optimization_barrier(jnp.sum(array, axis=-1))
    return jnp.sum(array)


def sum_of(parts: Sequence[Any]) -> Any:
    """The sum of a list of arrays of one shape; of no arrays, 0.0."""
    return sum(parts[1:], start=parts[0]) if parts else 0.0
