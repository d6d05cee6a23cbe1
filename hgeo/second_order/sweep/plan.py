"""The plan of a tangent sweep, as data: the computations for each coordinate.

A variable's tangent is kept as a factor times the tangent of a *root*, du = c ∘ dr, while only
elementwise equations lie between them. Factors, and the weights of every quadratic term

    Σ_k ⟨ v̄_k , φ_k''[u̇, u̇] ⟩ = Σ_{r,s} ⟨ W_rs , dr ∘ ds ⟩ + (terms of other equations),

do not depend on the coordinate, so they are computed once. A chain of any length, such as GELU,
then costs each coordinate one product and one sum.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from hgeo.second_order.linearity import LinearityRules
from hgeo.second_order.sweep.tangents import Root, Tangents, View

Step = Callable[[Tangents], None]
Term = Callable[[Tangents], jax.Array]


@dataclasses.dataclass(frozen=True)
class SweepContext:
    """What all sweeps over one program read.

    Attributes:
      rules: of the program.
      values: of every variable.
      adjoints: of the outputs of every equation that is not linear in its moving inputs.
      num_coordinates: maps an equation's output variable to the number of coordinates whose tangent
        passes through it.
      batch_axes: the mesh axes over which the batch is split; `None` if unknown.
      shared: arrays that several sweeps read, by key; filled while sweeps are planned.
    """

    rules: LinearityRules
    values: Mapping[int, Any]
    adjoints: Mapping[int, Any]
    num_coordinates: Mapping[int, int]
    batch_axes: tuple[str, ...] | None = None
    shared: dict[Any, Any] = dataclasses.field(default_factory=dict)

    def once(self, key: tuple[Any, ...], read: Sequence[Any], make: Callable[[], Any]) -> Any:
        """The result of `make`, computed once for all sweeps with this key and these arrays."""
        full = (key, *map(id, read))
        if full not in self.shared:
            self.shared[full] = (read, make())  # keeps `read` alive, so that its ids stay unique
        return self.shared[full][1]


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """A tangent sweep over one segment of the program.

    Attributes:
      num_equations: the number of equations in the segment.
      views: the tangents of all variables, as multiples of roots.
      roots: those tangents, by number.
      steps: compute the roots without a `compute`; run in order.
      terms: the second-order terms that are not of the form ⟨W_rs, dr ∘ ds⟩.
      weights: W_rs by pair of roots.
      folded: wide products whose tangent is not computed; their sources' tangents replace it.
      targets: the variables whose tangents the sweep returns.
    """

    num_equations: int
    views: Mapping[int, View]
    roots: Mapping[int, Root]
    steps: tuple[Step, ...]
    terms: tuple[Term, ...]
    weights: Mapping[tuple[int, int], jax.Array]
    folded: frozenset[int]
    targets: tuple[int, ...]
