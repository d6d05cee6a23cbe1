"""Builds a sweep's plan: the bookkeeping that all planners share."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.linearity import LinearityRules
from hgeo.second_order.one_hot import dense
from hgeo.second_order.summation import sum_of
from hgeo.second_order.sweep.plan import Step, SweepContext, SweepPlan, Term
from hgeo.second_order.sweep.tangents import Root, View
from hgeo.second_order.wide_product import WideProduct


class PlanBuilder:
    """An unfinished plan, to which planners add views, roots, steps, terms and weights.

    Attributes:
      context: what all sweeps over the program read.
      views: by variable that has a tangent.
      roots: by number.
      steps: as in `SweepPlan`.
      terms: as in `SweepPlan`.
    """

    def __init__(self, context: SweepContext, sources: Sequence[int]):
        """Starts a plan in which the tangents of `sources` are given."""
        self.context = context
        self.views: dict[int, View] = {}
        self.roots: dict[int, Root] = {}
        self.steps: list[Step] = []
        self.terms: list[Term] = []
        self._weights: dict[tuple[int, int], Any] = {}
        self._origins: dict[int, list[Any]] = {}
        self._read: set[int] = set()
        self._repeated: dict[tuple[int, tuple[int, ...]], int] = {}
        self._num_unnamed = 0
        for source in sources:
            self.new_root(source)

    @property
    def rules(self) -> LinearityRules:
        """The program's linearity rules."""
        return self.context.rules

    def once(self, key: tuple[Any, ...], read: Sequence[Any], make: Callable[[], Any]) -> Any:
        """As in `SweepContext`."""
        return self.context.once(key, read, make)

    def new_root(self, variable: int, **fields: Any) -> None:
        """Makes a variable a root.

        Args:
          variable: its number.
          fields: of `Root`, without the dtype.
        """
        self.roots[variable] = Root(self.rules.avals[variable].dtype, **fields)
        self.views[variable] = View(variable, None)

    def unnamed_root(self, dtype: Any, **fields: Any) -> int:
        """Adds a root that is no variable, and returns its number; arguments as in `Root`."""
        self._num_unnamed += 1
        root = -self._num_unnamed
        self.roots[root] = Root(dtype, **fields)
        self.views[root] = View(root, None)
        return root

    def value_as(self, variable: int, shape: tuple[int, ...]) -> Any:
        """A variable's value, broadcast to a shape."""
        value = self.context.values[variable]
        return jnp.broadcast_to(value, shape) if jnp.shape(value) != shape else value

    def view_as(self, variable: int, shape: tuple[int, ...]) -> View:
        """The view of a variable that is broadcast to a shape."""
        aval = self.rules.avals[variable]
        if aval.shape == shape:
            return self.views[variable]
        if (variable, shape) not in self._repeated:
            self._repeated[variable, shape] = self.unnamed_root(
                aval.dtype,
                compute=lambda tangents: jnp.broadcast_to(dense(tangents.read(variable)), shape),
                needs=(self.views[variable].root,),
                repeats=variable,
            )
        return View(self._repeated[variable, shape], None)

    def mark_read(self, root: int) -> None:
        """Marks a root, and the roots that it is computed from, as read entry by entry."""
        if root not in self._read:
            self._read.add(root)
            for needed in self.roots[root].needs:
                self.mark_read(needed)

    def source_root(self, product: WideProduct) -> int:
        """The root of a wide product's source x."""
        return self.views[product.source].root

    def add_weight(self, first: int, second: int, weight: jax.Array, is_bounded: bool) -> None:
        """Adds ⟨weight, dr ∘ ds⟩ for two roots.

        Args:
          first: the root r.
          second: the root s.
          weight: of their shape.
          is_bounded: whether the weight is finite wherever the equation's value is.
        """
        repeated = self.roots[first].repeats
        if first == second and repeated is not None:
            # The square of a broadcast tangent: its weights are summed once, here.
            root, factor = self.views[repeated]
            weight = _summed_to(weight, self.rules.avals[repeated].shape)
            weight = weight if factor is None else weight * factor**2
            self.add_weight(root, root, weight, is_bounded=False)
            return
        key = (min(first, second), max(first, second))
        if key in self._weights:
            weight = sum_of([self._weights[key], weight])
        self._weights[key] = weight
        # The square of a wide product's tangent follows from its source's.
        if first != second or not is_bounded or self.roots[first].product is None:
            self.mark_read(first)
            self.mark_read(second)

    def note_origin(self, root: int, origin: Any) -> None:
        """Records a term of a root's weight."""
        self._origins.setdefault(root, []).append(origin)

    def finish(self, targets: Sequence[int], num_equations: int) -> SweepPlan:
        """The plan of a sweep that returns the tangents of `targets`."""
        for variable in targets:
            self.mark_read(self.views[variable].root)
        folded = self._fold_products()
        return SweepPlan(
            num_equations=num_equations,
            views=self.views,
            roots=self.roots,
            steps=tuple(self.steps),
            terms=tuple(self.terms),
            weights=self._weights,
            folded=folded,
            targets=tuple(targets),
        )

    def _fold_products(self) -> frozenset[int]:
        """Replaces wide products that nothing reads by terms of their sources."""
        folded = set()
        for root, about in reversed(self.roots.items()):
            if about.product is None or root in self._read:
                continue
            self.mark_read(self.source_root(about.product))
            folded.add(root)
            weight = self._weights.pop((root, root), None)
            if weight is not None:
                self.terms.append(self._square(root, about.product, weight))
        return frozenset(folded)

    def _square(self, root: int, product: WideProduct, weight: jax.Array) -> Term:
        """⟨weight, ż ∘ ż⟩ of a wide product z, from the tangent of its source."""
        num_coordinates = self.context.num_coordinates[root]
        # The key holds the terms of the weight, since sweeps may differ in them: with another
        # moving path, some terms belong to another root. A term's factors depend on its root alone.
        square = self.once(
            ("square", root, *self._origins[root]),
            (),
            lambda: product.square(
                weight.astype(product.matrix.dtype), num_coordinates, self.context.batch_axes
            ),
        )
        return lambda tangents: square(dense(tangents.read(product.source)))


def _summed_to(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    axes = range(array.ndim)
    if shape == ():
        return jnp.sum(array)
    return jnp.sum(array, axis=tuple(a for a in axes if shape[a] != array.shape[a]), keepdims=True)
