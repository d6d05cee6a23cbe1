"""Tangents of a sweep: variables' as multiples of roots, and the roots' values in a run."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax

from hgeo.second_order.one_hot import Tangent, scaled
from hgeo.second_order.wide_product import WideProduct


class View(NamedTuple):
    """A variable's tangent as factor ∘ (the tangent of a root).

    Attributes:
      root: the root's number.
      factor: an array of the variable's shape; `None` stands for ones.
    """

    root: int
    factor: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Root:
    """A tangent that other variables' tangents are multiples of.

    Roots that are variables have the variable's number; all others have negative ones.

    Attributes:
      dtype: of its entries; `None` if no variable is a multiple of it.
      compute: computes it when it is first read; `None` if it is given or a step computes it.
      needs: the roots that `compute` reads.
      product: the wide product whose tangent it is; `None` if it is none.
      summands: the factors by root, if it is a sum of multiples of other roots.
      repeats: the variable whose tangent it broadcasts; `None` if it broadcasts none.
    """

    dtype: Any
    compute: "Callable[[Tangents], Tangent] | None" = None
    needs: tuple[int, ...] = ()
    product: WideProduct | None = None
    summands: Mapping[int, jax.Array | None] | None = None
    repeats: int | None = None


class Tangents:
    """The tangents of one run of a sweep; each is computed when it is first read."""

    def __init__(
        self,
        views: Mapping[int, View],
        roots: Mapping[int, Root],
        folded: Collection[int],
        sources: Mapping[int, Tangent],
    ):
        """Starts with the tangents of the sources, by variable."""
        self._views, self._roots, self._folded = views, roots, folded
        self._computed = dict(sources)

    def read(self, variable: int) -> Tangent:
        """The tangent of a variable."""
        root, factor = self._views[variable]
        return scaled(self.read_root(root), factor)

    def read_root(self, root: int) -> Tangent:
        """The tangent of a root."""
        if root not in self._computed:
            compute = self._roots[root].compute
            assert compute is not None, "a step computes this root before it is read"
            self._computed[root] = compute(self)
        return self._computed[root]

    def store(self, root: int, tangent: Tangent) -> None:
        """Stores the tangent of a root that a step has computed."""
        self._computed[root] = tangent

    def is_folded(self, root: int) -> bool:
        """Whether a wide product is replaced by its source."""
        return root in self._folded
