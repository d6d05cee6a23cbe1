"""The plan of a tangent sweep: what is computed for each coordinate, as data.

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
      adjoints: of the outputs of every equation that is not linear in what moves.
      num_coordinates: maps an equation's output variable to the number of coordinates whose tangent
        passes through it.
      batch_axes: the mesh axes over which the batch is split, where that is known.
      shared: arrays that several sweeps read, by key; added to while sweeps are planned.
    """

    rules: LinearityRules
    values: Mapping[int, Any]
    adjoints: Mapping[int, Any]
    num_coordinates: Mapping[int, int]
    batch_axes: tuple[str, ...] | None = None
    shared: dict[Any, Any] = dataclasses.field(default_factory=dict)

    def once(self, key: tuple[Any, ...], read: Sequence[Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for all sweeps that have this key and read these arrays."""
        full = (key, *map(id, read))
        if full not in self.shared:
            self.shared[full] = (read, make())  # held, so that their ids stay their own
        return self.shared[full][1]


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """A tangent sweep over one segment of a layer's way to the loss.

    Attributes:
      num_equations: how many equations it covers.
      views: the tangents of all variables, as multiples of roots.
      roots: those tangents, by number.
      steps: compute roots that several others read; run in order.
      terms: the second-order terms that are no weight of two roots.
      weights: W_rs by pair of roots.
      folded: wide products that are replaced by what they are products of.
      targets: the variables whose tangents are asked for.
    """

    num_equations: int
    views: Mapping[int, View]
    roots: Mapping[int, Root]
    steps: tuple[Step, ...]
    terms: tuple[Term, ...]
    weights: Mapping[tuple[int, int], jax.Array]
    folded: frozenset[int]
    targets: tuple[int, ...]
