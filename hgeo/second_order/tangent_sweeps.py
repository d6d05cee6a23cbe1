"""What both ways of adjoint-weighted mode share: the traced loss, and tangents of its layers."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.params.coordinates import Coordinates
from hgeo.second_order.device_axes import own_adjoint, varying_as
from hgeo.second_order.jaxpr import active, reaching
from hgeo.second_order.leaf_tangents import tangents_of_coordinate, tangents_of_direction
from hgeo.second_order.linearity import LinearityRules
from hgeo.second_order.one_hot import Tangent, dense
from hgeo.second_order.quadratic_form import ProbePoints
from hgeo.second_order.summation import widest
from hgeo.second_order.traced_loss import TracedLoss

Tangents = dict[int, jax.Array]


class TangentSweeps:
    """The program of a loss, and where tangents of some layers enter and pass it.

    Attributes:
      program: the traced loss.
      leaves: the values of its inputs.
      sources: for each layer, the inputs that hold its parts.
      layers: by name.
      rules: of the program.
      needed: the variables whose tangents reach the output.
      curved: the outputs of equations that are not linear in what moves, ascending.
      num_coordinates: maps an equation's output variable to the number of coordinates whose tangent
        passes through it.
    """

    def __init__(self, traced: TracedLoss, probe_points: ProbePoints):
        """Finds the equations that the layers' tangents pass."""
        self.program, self.sources, self.leaves = traced
        self.layers = {name: chosen.layer for name, chosen in probe_points.items()}
        self._probe_points = probe_points
        self.rules, self.needed = LinearityRules(self.program), reaching(self.program)
        curved, self.num_coordinates = set(), dict[int, int]()
        for name, sources in self.sources.items():
            for equation, free in active(self.program, self.needed, sorted(set(sources))):
                out, own = equation.outputs[0], probe_points[name].points.shape[0]
                self.num_coordinates[out] = self.num_coordinates.get(out, 0) + own
                if not self.rules.is_linear(equation, free):
                    curved.update(equation.outputs)
        inexact = lambda v: jnp.issubdtype(self.program.avals[v].dtype, jnp.inexact)
        self.curved = sorted(filter(inexact, curved))

    def begin(self, name: str, point: jax.Array) -> dict[int, Tangent]:
        """The tangents of a layer's leaves along one coordinate or direction."""
        is_coordinate = isinstance(self._probe_points[name], Coordinates)
        tangents = tangents_of_coordinate if is_coordinate else tangents_of_direction
        return tangents(self.layers[name], self.sources[name], self.leaves, point)

    def own(self, adjoints: Mapping[int, jax.Array]) -> dict[int, jax.Array]:
        """One device's shares of adjoints, by variable."""
        avals = self.program.avals
        output = avals[self.program.output]
        return {v: own_adjoint(avals[v], output, x) for v, x in adjoints.items()}

    def alike(self, value: Any, tangents: Mapping[int, Tangent]) -> tuple[jax.Array, Tangents]:
        """Value and tangents, cast to the dtypes and device axes common to all segments."""
        dtype = widest(jnp.float32, *[layer.dtype for layer in self.layers.values()])
        zero = jnp.zeros_like(self.leaves[0].ravel()[0]).astype(dtype)
        avals = self.program.avals
        ends = {v: varying_as(avals[v], dense(t)) for v, t in tangents.items()}
        return zero + jnp.asarray(value).astype(dtype), ends

    def cast(self, values: Mapping[str, jax.Array]) -> list[jax.Array]:
        """Each layer's results for its points, without what pads them, in the layer's dtype."""
        return [
            values[name].ravel()[: len(self._probe_points[name].points)].astype(layer.dtype)
            for name, layer in self.layers.items()
        ]
