"""Maps each layer to its quadratic form: a function of a coordinate or direction v, vᵀHv."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import jax

from hgeo.params.coordinates import Coordinates
from hgeo.params.directions import Directions
from hgeo.second_order.chunking import mapped
from hgeo.second_order.coordinate_axis import CoordinateAxis
from hgeo.second_order.memory import ChunkSize, most_together, temporary_bytes

# A point of a layer's coordinates or directions -> the form along it, a scalar.
QuadraticForm: TypeAlias = Callable[[jax.Array], jax.Array]

# By layer, the points at which its form is evaluated.
ProbePoints: TypeAlias = Mapping[str, Coordinates] | Mapping[str, Directions]


class QuadraticForms(Mapping[str, QuadraticForm]):
    """The forms of some layers by name."""

    def __init__(self, forms: Mapping[str, QuadraticForm], probe_points: ProbePoints):
        """Takes the forms, and the points at which they are evaluated."""
        self._forms, self._probe_points = forms, probe_points

    def __getitem__(self, name: str) -> QuadraticForm:  # noqa: D105 - as `Mapping` has it
        return self._forms[name]

    def __iter__(self) -> Iterator[str]:  # noqa: D105 - as `Mapping` has it
        return iter(self._forms)

    def __len__(self) -> int:  # noqa: D105 - as `Mapping` has it
        return len(self._forms)

    def at_all_points(
        self, chunk: int | ChunkSize, axis: CoordinateAxis | None = None
    ) -> list[jax.Array]:
        """Evaluates each layer's form at its `n` points: arrays of shape `(n,)`, in layer order.

        Args:
          chunk: how many points are computed together.
          axis: over which they are split; `chunk` then bounds each share.
        """
        return [
            mapped(form, self._probe_points[name].points, self._most(name, chunk), axis=axis)
            for name, form in self.items()
        ]

    def _most(self, name: str, chunk: int | ChunkSize) -> int:
        return most_together(chunk, name, lambda: self._bytes(name))

    def _bytes(self, name: str) -> int:
        """An upper estimate of the temporaries of one point."""
        return temporary_bytes(self[name], self._a_point(name))

    def _a_point(self, name: str) -> jax.ShapeDtypeStruct:
        points = self._probe_points[name].points
        return jax.ShapeDtypeStruct(points.shape[1:], points.dtype)
