"""Adjoint-weighted forward mode: an exact Hessian-diagonal entry from one tangent sweep.

For a program with intermediate values u_k = φ_k(inputs) and output L, the second-order chain rule
along a direction e of the weights reads

    eᵀHe = Σ_k ⟨ v̄_k , φ_k''[u̇, u̇] ⟩,   v̄_k = ∂L/∂u_k,   u̇ = the forward tangent along e,

over the equations φ_k that are not linear in the inputs that depend on the weights. Values and
adjoints are the same for every coordinate of every layer, and are computed once.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from hgeo.second_order.chunking import even_chunks, in_chunks, together
from hgeo.second_order.coordinate_axis import CoordinateAxis
from hgeo.second_order.device_axes import zeros_of
from hgeo.second_order.memory import ChunkSize, temporary_bytes
from hgeo.second_order.one_hot import OneHot
from hgeo.second_order.quadratic_form import ProbePoints, QuadraticForms
from hgeo.second_order.rematerialized import Rematerialized
from hgeo.second_order.segments import (
    LAYERS_BETWEEN_CUT_POINTS,
    CutPoint,
    Segments,
    positions_between_layers,
)
from hgeo.second_order.shared_loop import shared_loop
from hgeo.second_order.sweep.executor import run_sweep
from hgeo.second_order.sweep.plan import SweepContext, SweepPlan
from hgeo.second_order.sweep.planner import plan_sweep
from hgeo.second_order.tangent_sweeps import Tangents, TangentSweeps
from hgeo.second_order.traced_loss import TracedLoss, trace_loss

PyTree = Any
Total = Callable[[PyTree], jax.Array]
ShareSegments = bool | Literal["auto"]

# One loop for all layers compiles each segment once, and branches at each cut point. It pays where
# it divides the number of equations to compile by at least this factor. On a CPU the loop runs
# longer, and above this number of points the longer run costs more than the compilation saves. On
# other backends compilation takes most of a probe's time.
MIN_PROGRAM_REDUCTION = 2.0
MAX_SHARED_POINTS_ON_CPU = 64

REMAT = ("auto", "block", "none")


def check_remat(remat: str) -> None:
    """Raises a ValueError unless `remat` is one of `REMAT`."""
    if remat not in REMAT:
        raise ValueError(f"remat must be one of {REMAT}, not {remat!r}")


def adjoint_weighted(
    total: Total,
    params: PyTree,
    probe_points: ProbePoints,
    *,
    share_segments: ShareSegments = "auto",
    batch_axes: tuple[str, ...] | None = None,
    remat: str = "auto",
) -> QuadraticForms:
    """vᵀHv by one forward tangent sweep a direction.

    Args:
      total: the sum of the losses of some examples.
      params: its argument.
      probe_points: by layer.
      share_segments: as in `AdjointWeighted`.
      batch_axes: the mesh axes over which the batch is split; `None` if unknown.
      remat: "block": values and adjoints are recomputed piece by piece. "none": all of them are
        kept. "auto": "block" if the loss has a `jax.checkpoint`, else "none".
    """
    layers = {name: chosen.layer for name, chosen in probe_points.items()}
    traced = trace_loss(total, params, layers)
    if remat == "block" or (remat == "auto" and traced.program.has_checkpoints):
        return Rematerialized(traced, probe_points, batch_axes)
    return AdjointWeighted(traced, probe_points, share_segments, batch_axes)


class AdjointWeighted(QuadraticForms):
    """vᵀHv by one forward tangent sweep a direction, weighted by adjoints computed once.

    Each layer's sweep is a chain of segments (`Segments`). Its first segment runs from its leaves
    to the first cut point at which its tangents are dense. The later segments are shared by all
    layers whose tangents pass through the same cut point.

    Reference:
      The second-order chain rule; Gower and Mello, A new framework for the computation of Hessians
      (2012), and Martens, Sutskever and Swersky, Curvature propagation (2012), use relatives of it.
    """

    def __init__(
        self,
        traced: TracedLoss,
        probe_points: ProbePoints,
        share_segments: ShareSegments,
        batch_axes: tuple[str, ...] | None,
    ):
        """Runs the loss once forward and once backward, and plans the segments.

        Args:
          traced: the loss.
          probe_points: by layer.
          share_segments: whether `at_all_points` computes all layers in one loop, in which each
            segment is compiled once; "auto": if its estimated time is lower. `True` also uses every
            possible cut point.
          batch_axes: the mesh axes over which the batch is split; `None` if unknown.
        """
        super().__init__(
            {name: functools.partial(self._at, name) for name in probe_points}, probe_points
        )
        self._share_segments: ShareSegments = share_segments
        self._sweeps = sweeps = TangentSweeps(traced, probe_points)
        values, adjoints = self._values_and_adjoints()
        context = SweepContext(sweeps.rules, values, adjoints, sweeps.num_coordinates, batch_axes)
        between = 1 if share_segments is True else LAYERS_BETWEEN_CUT_POINTS
        positions = positions_between_layers(sweeps.program, sweeps.needed, sweeps.sources, between)
        self._plan_segments(context, Segments(sweeps.program, sweeps.needed, positions))

    def _values_and_adjoints(self):
        """All values of the program, and the adjoints of some of its variables."""
        program = self._sweeps.program
        taps = {variable: zeros_of(program.avals[variable]) for variable in self._sweeps.curved}

        def run(taps):
            values = program.run(self._sweeps.leaves, taps)
            return values[program.output], values

        adjoints, values = jax.grad(run, has_aux=True)(taps)
        return values, self._sweeps.own(adjoints)

    def _plan_segments(self, context: SweepContext, segments: Segments) -> None:
        """Plans each layer's first segment, and the segments from the cut points behind it."""

        def plan(sources, start, end):
            targets = end.variables if end else ()
            return plan_sweep(context, segments.segment(sources, start, end), sources, targets)

        self._first: dict[str, tuple[SweepPlan, CutPoint | None]] = {}
        self._next: dict[CutPoint, tuple[SweepPlan, CutPoint | None]] = {}
        self._taken: dict[CutPoint, int] = {}
        for name, sources in self._sweeps.sources.items():
            for end in [*segments.cut_points(sources), None]:
                self._first[name] = plan(sources, 0, end), end
                if end is None or self._is_dense(name):
                    break
            while end is not None and end not in self._next:
                ahead = next(iter(segments.cut_points(end.variables, end.position)), None)
                self._next[end] = plan(end.variables, end.position, ahead), ahead
                end = ahead

    def at_all_points(
        self, chunk: int | ChunkSize, axis: CoordinateAxis | None = None
    ) -> list[jax.Array]:
        """As in `QuadraticForms`."""
        if not self._are_shared():
            return super().at_all_points(chunk, axis)
        most = {name: self._most(name, chunk) for name in self}
        if isinstance(chunk, ChunkSize):
            most = dict.fromkeys(most, min(most.values()))
        points = {name: self._probe_points[name].points for name in self}
        by_size: dict[int, list[str]] = {}
        for name in self:
            num_points = -(-len(points[name]) // (axis.size if axis else 1))
            by_size.setdefault(even_chunks(num_points, most[name])[1], []).append(name)
        values = {}
        for size, names in by_size.items():
            paths = {name: list(self._cut_points(name)) for name in names}
            chunks = {name: in_chunks(points[name], size, axis) for name in names}
            first = lambda name, chunk: together(
                functools.partial(self._first_segment, name), axis
            )(chunk)
            later = lambda start, *carry: together(
                functools.partial(self._next_segment, start), axis
            )(*carry)
            values |= shared_loop(paths, chunks, first, later)
        return self._sweeps.cast(values)

    def _are_shared(self) -> bool:
        """Whether the layers share their segments, in one loop."""
        if len(self._forms) == 1 or self._share_segments is False:
            return False
        if self._share_segments is True:
            return True
        first = {name: plan.num_equations for name, (plan, _) in self._first.items()}
        later = {point: plan.num_equations for point, (plan, _) in self._next.items()}
        separate = sum(
            n + sum(later[point] for point in self._cut_points(name)) for name, n in first.items()
        )
        shared = sum(first.values()) + sum(later.values())
        most = max(len(self._probe_points[name].points) for name in self)
        is_short = jax.default_backend() != "cpu" or most <= MAX_SHARED_POINTS_ON_CPU
        return is_short and separate >= MIN_PROGRAM_REDUCTION * shared

    def _cut_points(self, name: str) -> Iterator[CutPoint]:
        """The cut points that a layer's tangents pass, in order."""
        point = self._first[name][1]
        while point is not None:
            yield point
            point = self._next[point][1]

    def _is_dense(self, name: str) -> bool:
        """Whether a layer's tangents are dense where its first segment ends."""
        sparse = []

        def run(point):
            value, ends = run_sweep(self._first[name][0], self._sweeps.begin(name, point))
            sparse.extend(end for end in ends.values() if isinstance(end, OneHot))
            return value

        jax.eval_shape(run, self._a_point(name))
        return not sparse

    def _first_segment(self, name: str, point: jax.Array) -> tuple[jax.Array, Tangents]:
        """A layer's first segment: its part of vᵀHv, and the tangents at its end."""
        return self._sweeps.alike(*run_sweep(self._first[name][0], self._sweeps.begin(name, point)))

    def _next_segment(self, start: CutPoint, value: jax.Array, tangents: Tangents):
        """The segment from a cut point to the next."""
        more, ends = run_sweep(self._next[start][0], tangents)
        more, ends = self._sweeps.alike(more, ends)
        return value + more, ends

    def _at(self, name: str, point: jax.Array) -> jax.Array:
        value, tangents = self._first_segment(name, point)
        for start in self._cut_points(name):
            value, tangents = self._next_segment(start, value, tangents)
        return value.astype(self._sweeps.layers[name].dtype)

    def _bytes(self, name):
        own = temporary_bytes(functools.partial(self._first_segment, name), self._a_point(name))
        return max([own, *(self._bytes_from(start) for start in self._cut_points(name))])

    def _bytes_from(self, start):
        if start not in self._taken:
            given = {v: zeros_of(self._sweeps.program.avals[v]) for v in start.variables}
            carried = sum(array.nbytes for array in given.values())
            run = lambda: self._next_segment(start, jnp.float32(0.0), given)
            self._taken[start] = carried + temporary_bytes(run)
        return self._taken[start]
