"""Adjoint-weighted forward mode: an exact Hessian-diagonal entry from one tangent sweep.

For a program with intermediate values u_k = φ_k(inputs) and output L, the second-order chain rule
along a direction e of the weights reads

    eᵀHe = Σ_k ⟨ v̄_k , φ_k''[u̇, u̇] ⟩,   v̄_k = ∂L/∂u_k,   u̇ = the forward tangent along e,

over the equations φ_k that are not linear in the inputs that depend on the weights. Values and
adjoints are the same for every coordinate of every layer, and are computed once.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from hgeo.losses import varying_axes
from hgeo.params.coordinates import Coordinates
from hgeo.second_order.chunking import even_chunks, in_chunks
from hgeo.second_order.coordinate_axis import CoordinateAxis
from hgeo.second_order.jaxpr import active, reaching
from hgeo.second_order.leaf_tangents import tangents_of_coordinate, tangents_of_direction
from hgeo.second_order.linearity import LinearityRules
from hgeo.second_order.memory import ChunkSize, temporary_bytes
from hgeo.second_order.one_hot import OneHot, Tangent, dense
from hgeo.second_order.quadratic_form import ProbePoints, QuadraticForms
from hgeo.second_order.segments import LAYERS_BETWEEN_CUT_POINTS, CutPoint, Segments
from hgeo.second_order.shared_loop import shared_loop
from hgeo.second_order.summation import widest
from hgeo.second_order.sweep.executor import run_sweep
from hgeo.second_order.sweep.plan import SweepContext, SweepPlan
from hgeo.second_order.sweep.planner import plan_sweep
from hgeo.second_order.traced_loss import trace_loss

PyTree = Any
Total = Callable[[PyTree], jax.Array]
Tangents = dict[int, jax.Array]
ShareSegments = bool | Literal["auto"]

# One loop for all layers compiles each segment once, and branches at each cut point. It pays where
# it divides the number of equations to compile by at least this factor. On a CPU the loop runs
# longer, and above this number of points the longer run costs more than the compilation saves. On
# other backends compilation takes most of a probe's time.
MIN_PROGRAM_REDUCTION = 2.0
MAX_SHARED_POINTS_ON_CPU = 64


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
        total: Total,
        params: PyTree,
        probe_points: ProbePoints,
        *,
        share_segments: ShareSegments = "auto",
        batch_axes: tuple[str, ...] | None = None,
    ):
        """Traces the loss, runs it once forward and once backward, and plans the segments.

        Args:
          total: the sum of the losses of some examples.
          params: its argument.
          probe_points: by layer.
          share_segments: whether `at_all_points` computes all layers in one loop, in which each
            segment is compiled once; "auto": if its estimated time is lower. `True` also uses every
            possible cut point.
          batch_axes: the mesh axes over which the batch is split; `None` if unknown.
        """
        super().__init__(
            {name: functools.partial(self._at, name) for name in probe_points}, probe_points
        )
        self._layers = {name: chosen.layer for name, chosen in probe_points.items()}
        self._share_segments: ShareSegments = share_segments
        program, self._sources, self._leaves = trace_loss(total, params, self._layers)
        self._avals, self._output = program.avals, program.output
        rules, needed = LinearityRules(program), reaching(program)
        equations = {
            name: active(program, needed, sorted(set(sources)))
            for name, sources in self._sources.items()
        }
        curved = {
            variable
            for pairs in equations.values()
            for equation, free in pairs
            if not rules.is_linear(equation, free)
            for variable in equation.outputs
            if jnp.issubdtype(program.avals[variable].dtype, jnp.inexact)
        }
        values, adjoints = self._values_and_adjoints(program, curved)
        num_coordinates: dict[int, int] = {}
        for name, pairs in equations.items():
            for equation, _ in pairs:
                out = equation.outputs[0]
                own = probe_points[name].points.shape[0]
                num_coordinates[out] = num_coordinates.get(out, 0) + own
        context = SweepContext(rules, values, adjoints, num_coordinates, batch_axes)
        between = 1 if share_segments is True else LAYERS_BETWEEN_CUT_POINTS
        self._plan_segments(context, Segments(program, needed, self._sources, between))

    def _values_and_adjoints(self, program, curved):
        """All values of the program, and the adjoints of some of its variables."""
        taps = {variable: _zeros(program.avals[variable]) for variable in sorted(curved)}

        def run(taps):
            values = program.run(self._leaves, taps)
            return values[program.output], values

        adjoints, values = jax.grad(run, has_aux=True)(taps)
        return values, {variable: self._own(variable, x) for variable, x in adjoints.items()}

    def _plan_segments(self, context: SweepContext, segments: Segments) -> None:
        """Plans each layer's first segment, and the segments from the cut points behind it."""

        def plan(sources, start, end):
            targets = end.variables if end else ()
            return plan_sweep(context, segments.segment(sources, start, end), sources, targets)

        self._first: dict[str, tuple[SweepPlan, CutPoint | None]] = {}
        self._next: dict[CutPoint, tuple[SweepPlan, CutPoint | None]] = {}
        self._taken: dict[CutPoint, int] = {}
        for name, sources in self._sources.items():
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
            values |= shared_loop(paths, chunks, self._first_segment, self._next_segment, axis)
        return [
            values[name].ravel()[: len(points[name])].astype(self._layers[name].dtype)
            for name in self
        ]

    def _are_shared(self) -> bool:
        """Whether the layers share their segments, in one loop."""
        if len(self._layers) == 1 or self._share_segments is False:
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

    def _own(self, variable: int, adjoint: jax.Array) -> jax.Array:
        # Behind a collective, all devices hold the same value: summing over them counts it again.
        axes = varying_axes(self._avals[self._output])
        shared = axes - varying_axes(self._avals[variable])
        devices = math.prod(jax.lax.axis_size(axis) for axis in shared)
        return adjoint / devices if devices > 1 else adjoint

    def _cut_points(self, name: str) -> Iterator[CutPoint]:
        """The cut points that a layer's tangents pass, in order."""
        point = self._first[name][1]
        while point is not None:
            yield point
            point = self._next[point][1]

    def _begin(self, name: str, point: jax.Array) -> dict[int, Tangent]:
        """The tangents of a layer's leaves along one coordinate or direction."""
        is_coordinate = isinstance(self._probe_points[name], Coordinates)
        begin = tangents_of_coordinate if is_coordinate else tangents_of_direction
        return begin(self._layers[name], self._sources[name], self._leaves, point)

    def _is_dense(self, name: str) -> bool:
        """Whether a layer's tangents are dense where its first segment ends."""
        sparse = []

        def run(point):
            value, ends = run_sweep(self._first[name][0], self._begin(name, point))
            sparse.extend(end for end in ends.values() if isinstance(end, OneHot))
            return value

        jax.eval_shape(run, self._a_point(name))
        return not sparse

    def _first_segment(self, name: str, point: jax.Array) -> tuple[jax.Array, Tangents]:
        """A layer's first segment: its part of vᵀHv, and the tangents at its end."""
        return self._alike(*run_sweep(self._first[name][0], self._begin(name, point)))

    def _next_segment(self, start: CutPoint, value: jax.Array, tangents: Tangents):
        """The segment from a cut point to the next."""
        more, ends = run_sweep(self._next[start][0], tangents)
        more, ends = self._alike(more, ends)
        return value + more, ends

    def _alike(self, value: Any, tangents: Mapping[int, Tangent]) -> tuple[jax.Array, Tangents]:
        """Value and tangents, cast to the dtypes and device axes common to all segments."""
        dtype = widest(jnp.float32, *[layer.dtype for layer in self._layers.values()])
        zero = jnp.zeros_like(self._leaves[0].ravel()[0]).astype(dtype)
        ends = {v: _varying_as(self._avals[v], dense(t)) for v, t in tangents.items()}
        return zero + jnp.asarray(value).astype(dtype), ends

    def _at(self, name: str, point: jax.Array) -> jax.Array:
        value, tangents = self._first_segment(name, point)
        for start in self._cut_points(name):
            value, tangents = self._next_segment(start, value, tangents)
        return value.astype(self._layers[name].dtype)

    def _bytes(self, name):
        own = temporary_bytes(functools.partial(self._first_segment, name), self._a_point(name))
        return max([own, *(self._bytes_from(start) for start in self._cut_points(name))])

    def _bytes_from(self, start):
        if start not in self._taken:
            given = {variable: _zeros(self._avals[variable]) for variable in start.variables}
            carried = sum(array.nbytes for array in given.values())
            run = lambda: self._next_segment(start, jnp.float32(0.0), given)
            self._taken[start] = carried + temporary_bytes(run)
        return self._taken[start]


def _zeros(aval):
    return _varying_as(aval, jnp.zeros(aval.shape, aval.dtype))


def _varying_as(aval, array):
    """The array, marked as varying over the device axes over which a variable varies."""
    missing = tuple(varying_axes(aval) - varying_axes(jax.typeof(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array
