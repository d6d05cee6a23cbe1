"""A tangent sweep over some equations: what is computed before it, what each coordinate costs.

A variable's tangent is kept as a factor times the tangent of a *root*, du = c ∘ dr, for as long as
only elementwise equations lie between them. Factors, and the weights of every quadratic term

    Σ_k ⟨ v̄_k , φ_k''[u̇, u̇] ⟩ = Σ_{r,s} ⟨ W_rs , dr ∘ ds ⟩ + (terms of other equations),

do not depend on the coordinate, so they are computed once; a chain such as GELU then costs each
coordinate one product and one sum, whatever its length.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order import one_hot
from hgeo.second_order.jaxpr import Equation, is_inexact
from hgeo.second_order.linearity import Rules
from hgeo.second_order.one_hot import Tangent, cast, dense, scaled
from hgeo.second_order.softmax import softmax_axis
from hgeo.second_order.summation import inner, quadratic, sum_of
from hgeo.second_order.wide_product import BOUNDED, Product, on_rows, picks_labels, wide_product

State = dict[int, Tangent]


class Sweep:
    """A plan for tangent sweeps over one leg of a layer's way to the loss."""

    def __init__(
        self,
        rules: Rules,
        equations: Sequence[tuple[Equation, tuple[int, ...]]],
        values: Mapping[int, Any],
        adjoints: Mapping[int, Any],
        sources: Sequence[int],
        targets: Sequence[int],
        num: Mapping[int, int],
        shared: dict[Any, Any],
    ):
        """Computes all that the coordinates share.

        Args:
          rules: of the program.
          equations: from `active`.
          values: of every variable.
          adjoints: of the outputs of every equation that is not linear in what moves.
          sources: the variables whose tangents are given.
          targets: those whose tangents are asked for.
          num: by output variable of an equation, of how many coordinates it lies on the way.
          shared: what has been computed for other sweeps over the program; added to.
        """
        self._rules, self._values, self._adjoints = rules, values, adjoints
        self._shared = shared
        self._view: dict[int, tuple[int, Any]] = {source: (source, None) for source in sources}
        self._steps: list[Callable[[State], None]] = []
        self._terms: list[Callable[[State], jax.Array]] = []
        self._weights: dict[tuple[int, int], Any] = {}
        self._origins: dict[int, list[Any]] = {}  # the terms that a root's own weight is made of
        # Roots that are computed when they are first read, if ever.
        self._late: dict[int, Callable[[State], Tangent]] = {}
        self._products: dict[int, Product] = {}
        self._sums: dict[int, Mapping[int, Any]] = {}
        self._needs: dict[int, Sequence[int]] = {}  # what roots computed late are computed from
        self._read: set[int] = set()  # roots that are read entry by entry
        self._folded: set[int] = set()
        self._dtypes: dict[int, Any] = {}  # of roots that are no variables; negative numbers
        self._wide: dict[tuple[int, tuple[int, ...]], int] = {}
        self._repeated: dict[int, int] = {}  # roots that repeat a variable along some axes
        for equation, free in equations:
            self._plan(equation, free)
        self.num_equations, self._targets = len(equations), tuple(targets)
        for variable in targets:
            self._reads(self._view[variable][0])
        self._fold(num)

    def __call__(self, sources: Mapping[int, Tangent]) -> tuple[jax.Array, dict[int, Tangent]]:
        """What the equations add to eᵀHe, a scalar, and the tangents of the targets.

        Args:
          sources: the tangents of the sources, by variable.
        """
        state = dict(sources)
        for step in self._steps:
            step(state)
        parts = [term(state) for term in self._terms]
        for (r, s), weight in self._weights.items():
            parts.append(quadratic(weight, self._at(state, r), self._at(state, s)))
        return sum_of(parts), {v: self._tangent(state, v) for v in self._targets}

    def _once(self, key: tuple[Any, ...], read: Sequence[Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for all sweeps that have this key and read these arrays."""
        full = (key, *map(id, read))
        if full not in self._shared:
            self._shared[full] = (read, make())  # held, so that their ids stay their own
        return self._shared[full][1]

    def _at(self, state: State, root: int) -> Tangent:
        if root not in state:
            state[root] = self._late[root](state)
        return state[root]

    def _tangent(self, state: State, variable: int) -> Tangent:
        root, factor = self._view[variable]
        return scaled(self._at(state, root), factor)

    def _new_root(self, variable: int):
        self._view[variable] = (variable, None)

    def _reads(self, root: int):
        """Notes that a root will be read entry by entry, and so what it is computed from."""
        if root not in self._read:
            self._read.add(root)
            for part in self._needs.get(root, ()):
                self._reads(part)

    def _dtype(self, root: int):
        return self._rules.avals[root].dtype if root >= 0 else self._dtypes[root]

    def _fresh_root(self, dtype: Any) -> int:
        root = -1 - len(self._dtypes)
        self._dtypes[root] = dtype
        return root

    def _value(self, variable: int, shape: tuple[int, ...]):
        value = self._values[variable]
        return jnp.broadcast_to(value, shape) if jnp.shape(value) != shape else value

    def _seen(self, variable: int, shape: tuple[int, ...]) -> tuple[int, Any]:
        """The view of a variable where it is repeated to some shape."""
        if self._rules.avals[variable].shape == shape:
            return self._view[variable]
        if (variable, shape) not in self._wide:
            root = self._fresh_root(self._rules.avals[variable].dtype)
            self._needs[root] = [self._view[variable][0]]
            self._late[root] = lambda state: jnp.broadcast_to(
                dense(self._tangent(state, variable)), shape
            )
            self._repeated[root] = variable
            self._wide[variable, shape] = root
        return self._wide[variable, shape], None

    def _add_weight(self, first: int, second: int, weight, bounded: bool = False):
        if first == second and first in self._repeated:
            # The square of what is repeated: its weights are added up once, here.
            variable = self._repeated[first]
            shape = self._rules.avals[variable].shape
            root, factor = self._view[variable]
            weight = _summed_to(weight, shape)
            weight = weight if factor is None else weight * factor**2
            self._add_weight(root, root, weight)
            return
        key = (min(first, second), max(first, second))
        if key in self._weights:
            weight = sum_of([self._weights[key], weight])
        self._weights[key] = weight
        # The square of a product's tangent can be had without it.
        if first != second or not bounded or first not in self._products:
            self._reads(first)
            self._reads(second)

    def _fold(self, num: Mapping[int, int]):
        """Replaces wide products that nothing reads by what they are products of."""
        for root, product in reversed(self._products.items()):
            if root in self._read:
                continue
            source = product.source
            self._reads(self._view[source][0])
            self._folded.add(root)
            weight = self._weights.pop((root, root), None)
            if weight is None:
                continue
            # The weight may differ between sweeps: where another path moves too, some terms are of
            # another root. The factors of a term's inputs depend on its root alone.
            square = self._once(
                ("square", root, *self._origins[root]),
                (),
                lambda product=product, weight=weight, root=root: product.square(
                    weight.astype(product.matrix.dtype), num[root]
                ),
            )
            self._terms.append(
                lambda state, square=square, source=source: square(
                    dense(self._tangent(state, source))
                )
            )

    def _plan(self, equation: Equation, free: tuple[int, ...]):
        if self._rules.is_elementwise(equation, free):
            self._plan_elementwise(equation, free)
        elif free == (0,) and (narrow := self._on_rows(equation)) is not None:
            self._plan_rows(equation, narrow)
        elif equation.name in _SHAPED and len(free) == 1:
            self._plan_shaped(equation)
        elif equation.name == "dot_general":
            self._plan_product(equation, free)
        elif free == (0,) and picks_labels(equation, self._rules.avals):
            self._plan_labels(equation)
        elif (axis := softmax_axis(equation, self._rules.avals)) is not None:
            self._plan_softmax(equation, axis)
        else:
            self._plan_any(equation, free)

    def _plan_elementwise(self, equation, free):
        out = equation.outputs[0]
        shape, dtype = equation.avals[0].shape, equation.avals[0].dtype
        groups: dict[int, list[int]] = {}
        for k in free:
            groups.setdefault(self._seen(equation.inputs[k], shape)[0], []).append(k)
        narrow = any(self._dtype(root) != dtype for root in groups)
        if equation.name in _PASSED and free == (0,) and not narrow:
            self._view[out] = self._seen(equation.inputs[0], shape)
            return

        linear = self._rules.is_linear(equation, free)
        factors = {root: self._slope(equation, members) for root, members in groups.items()}
        if not linear:
            self._curve(equation, groups)
        if len(groups) == 1 and not narrow:
            root = next(iter(groups))
            self._view[out] = (root, factors[root])
            return

        def late(state):
            parts = [
                dense(scaled(cast(self._at(state, root), dtype), factor))
                for root, factor in factors.items()
            ]
            return sum_of(parts)

        self._late[out] = late
        self._new_root(out)
        self._needs[out] = list(groups)
        if not narrow:
            self._sums[out] = factors

    def _curve(self, equation, groups):
        """Adds the weights of an elementwise equation's second-order terms."""
        adjoint = self._adjoints[equation.outputs[0]]
        bounded = equation.name in BOUNDED
        if equation.name == "integer_pow":
            bounded = equation.params["y"] >= 2
        roots = list(groups)
        for n, first in enumerate(roots):
            for second in roots[n:]:
                if first == second and equation.name == "mul" and len(groups[first]) == 1:
                    continue
                if first == second:
                    origin = (equation.outputs[0], tuple(groups[first]))
                    self._origins.setdefault(first, []).append(origin)
                own, other = groups[first], groups[second]

                def make(own=own, other=other, times=1.0 if first == second else 2.0):
                    weight = times * self._twice(equation, own, other) * adjoint
                    return jnp.where(adjoint == 0, 0.0, weight)

                key = ("curve", equation, tuple(own), tuple(other))
                read = self._factors(equation, [*own, *other])
                self._add_weight(first, second, self._once(key, read, make), bounded)

    def _factors(self, equation, members):
        shape = equation.avals[0].shape
        return [self._seen(equation.inputs[k], shape)[1] for k in members]

    def _directions(self, equation, members):
        shape = equation.avals[0].shape
        factors = self._factors(equation, members)
        points = [self._value(equation.inputs[k], shape) for k in members]
        return tuple(
            jnp.ones_like(x) if c is None else c for x, c in zip(points, factors, strict=True)
        )

    def _read_for(self, equation, members):
        """Its inputs' values, those at `members` in the output's shape."""
        shape = equation.avals[0].shape
        return [
            self._value(v, shape) if k in members else self._values[v]
            for k, v in enumerate(equation.inputs)
        ]

    def _slope(self, equation, members):
        """The derivative of an elementwise equation when one root's tangent is all ones."""

        def make():
            read = self._read_for(equation, members)
            points = tuple(read[k] for k in members)
            directions = self._directions(equation, members)
            return jax.jvp(equation.at(read, members), points, directions)[1][0]

        key = ("slope", equation, tuple(members))
        return self._once(key, self._factors(equation, members), make)

    def _twice(self, equation, inner, outer):
        """Its second derivative along the tangents of two roots, given by the inputs of each."""
        read = self._read_for(equation, [*inner, *outer])
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
        root, factor = self._view[source]
        product, summed = self._products.get(root), None
        last = self._rules.avals[source].ndim - 1
        if product and equation.name == "reduce_sum" and tuple(equation.params["axes"]) == (last,):
            summed = self._once(
                ("summed", root), [factor], lambda product=product: product.summed(factor)
            )
            self._needs[out] = [self._view[product.source][0]]
        else:
            product = None
            self._needs[out] = [root]

        def late(state):
            if product is None or summed is None or root not in self._folded:
                return apply(self._tangent(state, source), equation.params)
            moved = dense(self._tangent(state, product.source))
            return jnp.sum(moved * jnp.broadcast_to(summed, moved.shape), axis=-1)

        self._late[out] = late
        self._new_root(out)

    def _on_rows(self, equation):
        product = self._products.get(self._view[equation.inputs[0]][0])
        return product and on_rows(equation, self._rules.avals, product.matrix.shape[0])

    def _plan_rows(self, equation, narrow):
        # The rows of x·W, moved, are those of x, moved so, times W. The factor of the whole is
        # moved too: the new root, which is numbered as the output, is what it multiplies.
        out, source = equation.outputs[0], equation.inputs[0]
        root, factor = self._view[source]
        product = self._products[root]
        move = lambda by, array: by.apply(array)[0]
        moved = self._fresh_root(self._dtype(root))
        self._new_root(moved)
        self._needs[moved] = [self._view[product.source][0]]
        self._late[moved] = lambda state: move(narrow, dense(self._tangent(state, product.source)))
        if factor is not None:
            factor = self._once(("moved", equation), [factor], lambda: move(equation, factor))
        self._view[out] = (out, factor)
        self._needs[out] = [root]
        self._late[out] = lambda state: move(equation, dense(self._at(state, root)))
        self._products[out] = dataclasses.replace(product, source=moved)

    def _plan_labels(self, equation):
        out, source = equation.outputs[0], equation.inputs[0]
        root, whole = self._view[source]
        indices = self._values[equation.inputs[1]]
        labels = indices[..., 0]
        pick = lambda array: equation.apply(array, indices)[0]
        parts = self._sums.get(root) or {root: None}
        picked = {
            part: self._products[part].picked(labels) for part in parts if part in self._products
        }
        self._needs[out] = [
            self._view[self._products[part].source][0] if part in self._products else part
            for part in parts
        ]
        factors = {part: None if c is None else pick(c) for part, c in parts.items()}
        own = None if whole is None else pick(whole)

        def of_part(state, part):
            if part in self._folded:
                moved = dense(self._tangent(state, self._products[part].source))
                value = jnp.sum(moved * picked[part], axis=-1, keepdims=True)
            else:
                value = pick(dense(self._at(state, part)))
            return scaled(value, factors[part])

        self._late[out] = lambda state: scaled(
            sum_of([of_part(state, part) for part in parts]), own
        )
        self._new_root(out)

    def _plan_product(self, equation, free):
        out = equation.outputs[0]
        left, right = equation.inputs
        values = [self._values[v] for v in (left, right)]
        dot = lambda a, b: one_hot.dot_general(a, b, **_product_params(equation.params))
        roots = [self._view[equation.inputs[k]][0] for k in free]
        self._new_root(out)
        if len(free) == 1:

            def late(state):
                moved = self._tangent(state, equation.inputs[free[0]])
                return dot(moved, values[1]) if free[0] == 0 else dot(values[0], moved)

            self._late[out], self._needs[out] = late, roots
            if product := wide_product(equation, free, self._values):
                self._products[out] = product
        else:
            adjoint = self._adjoints[out]
            for root in roots:
                self._reads(root)

            def step(state):
                a, b = self._tangent(state, left), self._tangent(state, right)
                state[out] = dense(dot(a, values[1])) + dense(dot(values[0], b))

            def term(state):
                a, b = self._tangent(state, left), self._tangent(state, right)
                return 2.0 * inner(adjoint, dense(dot(a, b)))

            self._terms.append(term)
            self._steps.append(step)

    def _plan_softmax(self, equation, axis):
        # y = softmax(x): dy = y t, t = dx − Σ y dx; ⟨v̄, d²y⟩ = Σ y (v̄ − Σ y v̄) t².
        out, source = equation.outputs[0], equation.inputs[0]
        y, adjoint = self._values[out], self._adjoints[out]
        root = self._fresh_root(equation.avals[0].dtype)
        self._reads(self._view[source][0])

        def step(state):
            moved = dense(self._tangent(state, source))
            state[root] = moved - jnp.sum(y * moved, axis=axis, keepdims=True)

        self._steps.append(step)
        self._view[out] = (root, y)
        weight = self._once(
            ("softmax", equation),
            (),
            lambda: y * (adjoint - jnp.sum(y * adjoint, axis=axis, keepdims=True)),
        )
        self._add_weight(root, root, weight)

    def _plan_any(self, equation, free):
        read = [self._values[v] for v in equation.inputs]
        points = tuple(read[k] for k in free)
        function = equation.at(read, free)
        roots = [self._view[equation.inputs[k]][0] for k in free]
        outs = [v for v, a in zip(equation.outputs, equation.avals, strict=True) if is_inexact(a)]
        moved = lambda state: tuple(dense(self._tangent(state, equation.inputs[k])) for k in free)
        linear = self._rules.is_linear(equation, free)
        for out in outs:
            self._new_root(out)
        once = lambda way, make: self._once((way, equation, free), (), make)
        if linear:
            push = once("push", lambda: jax.linearize(function, *points)[1])
        if linear and len(outs) == 1:
            self._late[outs[0]] = lambda state: push(*moved(state))[0]
            self._needs[outs[0]] = roots
            return
        for root in roots:
            self._reads(root)
        if linear:

            def step(state):
                state.update(zip(outs, push(*moved(state)), strict=True))

        else:
            # ⟨v̄, φ''[u̇, u̇]⟩ = ⟨u̇, d/dε φ'(u + ε u̇)ᵀ v̄⟩: all but the linear part is done here.
            adjoints = tuple(self._adjoints[v] for v in outs)

            def with_pullback(*points):
                outputs, pullback = jax.vjp(function, *points)
                return outputs, pullback(adjoints)

            push = once("curve", lambda: jax.linearize(with_pullback, *points)[1])
            curve = self._fresh_root(None)

            def step(state):
                steps = moved(state)
                pushed, curved = push(*steps)
                state.update(zip(outs, pushed, strict=True))
                state[curve] = sum_of([inner(c, s) for c, s in zip(curved, steps, strict=True)])

            self._terms.append(lambda state: dense(state[curve]))
        self._steps.append(step)


# First operand plus or minus something that is held: the tangent is passed on as it is.
_PASSED = {"add", "add_any", "sub", "copy", "copy_p", "convert_element_type"}

_SHAPED = {
    "reduce_sum": lambda tangent, params: one_hot.reduce_sum(tangent, params["axes"]),
    "transpose": lambda tangent, params: one_hot.transpose(tangent, params["permutation"]),
    "reshape": lambda tangent, params: one_hot.reshape(tangent, params["new_sizes"]),
    "squeeze": lambda tangent, params: one_hot.reduce_sum(tangent, params["dimensions"]),
}


def _product_params(params):
    names = ("dimension_numbers", "precision", "preferred_element_type", "out_sharding")
    return {name: params[name] for name in names if name in params}


def _summed_to(array, shape):
    axes = range(array.ndim)
    if shape == ():
        return jnp.sum(array)
    return jnp.sum(array, axis=tuple(a for a in axes if shape[a] != array.shape[a]), keepdims=True)
