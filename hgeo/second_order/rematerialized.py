"""Adjoint-weighted forward mode that recomputes values and adjoints piece by piece.

Tangents run forward through the program, adjoints backward. A piece's values and adjoints follow
from the values at its start and the adjoints at its end, which are kept. Each piece is recomputed
when a group of tangents arrives at it, and serves all coordinates of the group.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax

from hgeo.second_order.chunking import even_chunks, in_chunks, together
from hgeo.second_order.coordinate_axis import CoordinateAxis
from hgeo.second_order.isolation import isolated
from hgeo.second_order.memory import ChunkSize, temporary_bytes
from hgeo.second_order.pieces import Pieces
from hgeo.second_order.quadratic_form import ProbePoints, QuadraticForms
from hgeo.second_order.segments import CutPoint, Segments
from hgeo.second_order.shared_loop import shared_loop
from hgeo.second_order.sweep.executor import run_sweep
from hgeo.second_order.sweep.plan import SweepContext, SweepPlan
from hgeo.second_order.sweep.planner import plan_sweep
from hgeo.second_order.tangent_sweeps import Tangents, TangentSweeps
from hgeo.second_order.traced_loss import TracedLoss

PyTree = Any
Start = tuple[tuple[int, ...], int]  # a segment's sources and position

# Coordinates that share a recomputation. A gradient has about the operations of three forward
# sweeps, so that more save little; each takes the memory of its tangents between two pieces.
GROUP = 32


class Rematerialized(QuadraticForms):
    """vᵀHv by one forward tangent sweep a direction, in O(√depth) of memory.

    The last piece is the first of the backward pass: its values, adjoints and the head's matrices
    are computed once and kept.
    """

    def __init__(
        self,
        traced: TracedLoss,
        probe_points: ProbePoints,
        batch_axes: tuple[str, ...] | None,
    ):
        """Cuts the program, and keeps values and adjoints between the pieces.

        Args:
          traced: the loss.
          probe_points: by layer.
          batch_axes: the mesh axes over which the batch is split; `None` if unknown.
        """
        super().__init__(
            {name: functools.partial(self._at, name) for name in probe_points}, probe_points
        )
        self._sweeps, self._batch_axes = TangentSweeps(traced, probe_points), batch_axes
        self._pieces = Pieces(traced.program, traced.leaves)
        program, needed = traced.program, self._sweeps.needed
        self._segments = Segments(program, needed, self._pieces.positions)
        # Layers share what lies behind a cut point, and a look at it goes through the program.
        self._cut_after = functools.cache(self._next_cut_point)
        self._pieces_of = functools.cache(self._pieces_between)
        # Here and not inside a segment, so that all layers share the arrays behind these plans.
        last = self._context(len(self._pieces) - 1, len(self._pieces), sys.maxsize)
        self._kept: dict[Start, SweepPlan] = {}
        for name in self:
            points = [(end.variables, end.position) for end in self._cut_points(name)]
            for start in (self._start(name), *points):
                if start not in self._kept and self._pieces_of(*start)[0] == len(self._pieces) - 1:
                    self._kept[start] = self._plan_in(last, *start)

    def at_all_points(
        self, chunk: int | ChunkSize, axis: CoordinateAxis | None = None
    ) -> list[jax.Array]:
        """As in `QuadraticForms`."""
        most = min(self._most(name, chunk) for name in self)
        points = {name: self._probe_points[name].points for name in self}
        by_size: dict[int, list[str]] = {}
        for name in self:
            by_size.setdefault(even_chunks(len(points[name]), GROUP)[1], []).append(name)
        first = lambda name, group: self._first_segment(name, group, most, axis)
        later = lambda start, *carry: self._next_segment(start, carry, most, axis)
        values = {}
        for names in by_size.values():
            paths = {name: list(self._cut_points(name)) for name in names}
            groups = {name: in_chunks(points[name], GROUP) for name in names}
            values |= shared_loop(paths, groups, first, later)
        return self._sweeps.cast(values)

    def _start(self, name: str) -> Start:
        """Where a layer's first segment starts."""
        return tuple(self._sweeps.sources[name]), 0

    def _cut_points(self, name: str) -> Iterator[CutPoint]:
        """The cut points that a layer's tangents pass, in order."""
        end = self._cut_after(*self._start(name))
        while end is not None:
            yield end
            end = self._cut_after(end.variables, end.position)

    def _next_cut_point(self, sources: tuple[int, ...], start: int) -> CutPoint | None:
        return next(iter(self._segments.cut_points(sources, start)), None)

    def _first_segment(self, name: str, group, most: int, axis: CoordinateAxis | None):
        """From a layer's leaves: its part of vᵀHv, and the tangents at the first cut point."""

        def through(group):
            plan = self._plan(*self._start(name))
            begin = functools.partial(self._sweeps.begin, name)
            sweep = lambda point: self._sweeps.alike(*run_sweep(plan, begin(point)))
            return _over_points(sweep, most, axis)(group)

        return isolated(through, group)

    def _next_segment(self, start: CutPoint, carry, most: int, axis: CoordinateAxis | None):
        """From a cut point to the next."""

        def through(*carry):
            plan = self._plan(start.variables, start.position)

            def sweep(value: jax.Array, tangents: Tangents):
                more, ends = self._sweeps.alike(*run_sweep(plan, tangents))
                return value + more, ends

            return _over_points(sweep, most, axis)(*carry)

        return isolated(through, *carry)

    def _plan(self, sources: tuple[int, ...], start: int) -> SweepPlan:
        """The plan of a segment; its pieces are recomputed unless they are kept."""
        kept = self._kept.get((sources, start))
        if kept is not None:
            return kept
        context = self._context(*self._pieces_of(sources, start), GROUP)
        return self._plan_in(context, sources, start)

    def _pieces_between(self, sources: tuple[int, ...], start: int) -> tuple[int, int]:
        """The first piece of a segment, and the piece behind its last."""
        end = self._cut_after(sources, start)
        first = self._pieces.of(max(start, self._segments.begin(sources, start)))
        return first, len(self._pieces) if end is None else self._pieces.of(end.position)

    def _plan_in(self, context: SweepContext, sources: tuple[int, ...], start: int) -> SweepPlan:
        end = self._cut_after(sources, start)
        equations = self._segments.segment(sources, start, end)
        return plan_sweep(context, equations, sources, end.variables if end else ())

    def _context(self, first: int, last: int, most: int) -> SweepContext:
        """What sweeps over some pieces read, of which at most some coordinates share it."""
        sweeps = self._sweeps
        values, adjoints = self._pieces.recompute(first, last, sweeps.curved)
        shared = {v: min(number, most) for v, number in sweeps.num_coordinates.items()}
        return SweepContext(sweeps.rules, values, sweeps.own(adjoints), shared, self._batch_axes)

    def _at(self, name: str, point: jax.Array) -> jax.Array:
        carry = self._first_segment(name, point[None], 1, None)
        for start in self._cut_points(name):
            carry = self._next_segment(start, carry, 1, None)
        return carry[0][0].astype(self._sweeps.layers[name].dtype)

    def _bytes(self, name: str) -> int:
        plan = self._plan(*self._start(name))
        first = lambda point: run_sweep(plan, self._sweeps.begin(name, point))
        return temporary_bytes(first, self._a_point(name))


def _over_points(
    function: Callable[..., PyTree], most: int, axis: CoordinateAxis | None
) -> Callable[..., PyTree]:
    """The function of one point's arrays as one of many points', at most `most` together."""

    def apply(*arrays):
        chunks = jax.tree.map(lambda x: in_chunks(x, most, axis), arrays)
        results = jax.lax.map(lambda own: together(function, axis)(*own), chunks)
        num_points = jax.tree.leaves(arrays)[0].shape[0]
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_points], results)

    return apply
