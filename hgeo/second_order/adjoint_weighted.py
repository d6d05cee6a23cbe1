"""Adjoint-weighted forward mode: an exact Hessian-diagonal entry from one tangent sweep.

For a program with intermediate values u_k = φ_k(inputs) and output L, the second-order chain rule
along a direction e of the weights reads

    eᵀHe = Σ_k ⟨ v̄_k , φ_k''[u̇, u̇] ⟩,   v̄_k = ∂L/∂u_k,   u̇ = the forward tangent along e,

over the equations φ_k that are not linear in what moves. Values and adjoints are the same for
every coordinate of every layer, and are computed once.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.losses import varying_axes
from hgeo.params.coordinates import Coordinates
from hgeo.params.layers import Layer
from hgeo.params.leaf_paths import LeafSlice, leaves_by_path, path_of
from hgeo.second_order.chunking import even_chunks, in_chunks
from hgeo.second_order.jaxpr import Program, active, reaching, trace
from hgeo.second_order.linearity import Rules
from hgeo.second_order.memory import ChunkSize, temporary_bytes
from hgeo.second_order.one_hot import OneHot, Tangent, dense, one_hot
from hgeo.second_order.quadratic_form import Along, Forms
from hgeo.second_order.segments import Routes, Stop
from hgeo.second_order.shared_loop import shared_loop
from hgeo.second_order.summation import widest
from hgeo.second_order.tangent_sweep import Sweep

PyTree = Any
Total = Callable[[PyTree], jax.Array]
Tangents = dict[int, jax.Array]

# One loop for all layers, each leg compiled once, is worth its decisions where the equations to
# compile are then so many times fewer. On a CPU it runs for 5 to 8% longer, which takes about 300
# points of each of translation's 31 layers to cost as much as is saved (15 of 29 s); elsewhere
# compiling is nearly all that a probe takes.
SHORTER = 2.0
FEW_POINTS = 64


class AdjointWeighted(Forms):
    """vᵀHv by one forward tangent sweep a direction, weighted by adjoints computed once.

    Each layer's sweep is made of legs (`Routes`): one of its own, from its leaves to the first stop
    at which its tangents are dense, and from there those of all layers that come by.

    Reference:
      The second-order chain rule; Gower and Mello, A new framework for the computation of Hessians
      (2012), and Martens, Sutskever and Swersky, Curvature propagation (2012), use relatives of it.
    """

    def __init__(self, total: Total, params: PyTree, along: Along):
        """Traces the loss, runs it once forward and once backward, and plans the legs."""
        self._layers = {name: chosen.layer for name, chosen in along.items()}
        program, self._sources, self._leaves = trace_loss(total, params, self._layers)
        self._avals, self._output = program.avals, program.output
        rules, needed = Rules(program), reaching(program)
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
        taps = {variable: _zeros(program.avals[variable]) for variable in sorted(curved)}

        def run(taps):
            values = program.run(self._leaves, taps)
            return values[program.output], values

        adjoints, values = jax.grad(run, has_aux=True)(taps)
        adjoints = {variable: self._own(variable, x) for variable, x in adjoints.items()}
        num: dict[int, int] = {}
        for name, pairs in equations.items():
            for equation, _ in pairs:
                out = equation.outputs[0]
                num[out] = num.get(out, 0) + along[name].points.shape[0]
        shared: dict[Any, Any] = {}
        routes = Routes(program, needed, self._sources)

        def sweep(sources, start, stop):
            pairs, targets = routes.leg(sources, start, stop), stop.variables if stop else ()
            return Sweep(rules, pairs, values, adjoints, sources, targets, num, shared)

        super().__init__({name: functools.partial(self._at, name) for name in along}, along)
        self._first: dict[str, tuple[Sweep, Stop | None]] = {}
        self._next: dict[Stop, tuple[Sweep, Stop | None]] = {}
        self._taken: dict[Stop, int] = {}
        for name, sources in self._sources.items():
            for stop in [*routes.stops(sources), None]:
                self._first[name] = sweep(sources, 0, stop), stop
                if stop is None or self._is_dense(name):
                    break
            while stop is not None and stop not in self._next:
                ahead = next(iter(routes.stops(stop.variables, stop.position)), None)
                self._next[stop] = sweep(stop.variables, stop.position, ahead), ahead
                stop = ahead

    def at_all_points(self, chunk: int | ChunkSize) -> list[jax.Array]:
        """For each layer the values at its points, `(num,)`, `chunk` of them together."""
        if not self._pays():
            return super().at_all_points(chunk)
        most = {name: self._most(name, chunk) for name in self}
        if isinstance(chunk, ChunkSize):
            most = dict.fromkeys(most, min(most.values()))
        points = {name: self._along[name].points for name in self}
        alike: dict[int, list[str]] = {}
        for name in self:
            alike.setdefault(even_chunks(len(points[name]), most[name])[1], []).append(name)
        values = {}
        for size, names in alike.items():
            ways = {name: list(self._stops(name)) for name in names}
            chunks = {name: in_chunks(points[name], size) for name in names}
            values |= shared_loop(ways, chunks, self._leave, self._pass)
        return [
            values[name].ravel()[: len(points[name])].astype(self._layers[name].dtype)
            for name in self
        ]

    def _pays(self) -> bool:
        """Whether the layers should share their legs, in one loop."""
        if len(self._layers) == 1:
            return False
        first = {name: sweep.num_equations for name, (sweep, _) in self._first.items()}
        later = {stop: sweep.num_equations for stop, (sweep, _) in self._next.items()}
        apart = sum(n + sum(later[stop] for stop in self._stops(name)) for name, n in first.items())
        most = max(len(self._along[name].points) for name in self)
        is_short = jax.default_backend() != "cpu" or most <= FEW_POINTS
        return is_short and apart >= SHORTER * (sum(first.values()) + sum(later.values()))

    def _own(self, variable: int, adjoint: jax.Array) -> jax.Array:
        # What the devices have in common (after a collective) would be summed over them again.
        axes = varying_axes(self._avals[self._output])
        shared = axes - varying_axes(self._avals[variable])
        devices = math.prod(jax.lax.axis_size(axis) for axis in shared)
        return adjoint / devices if devices > 1 else adjoint

    def _stops(self, name: str) -> Iterator[Stop]:
        """The stops on a layer's way, in order."""
        stop = self._first[name][1]
        while stop is not None:
            yield stop
            stop = self._next[stop][1]

    def _begin(self, name: str, point: jax.Array) -> dict[int, Tangent]:
        """The tangents of a layer's leaves along one coordinate or direction."""
        layer, sources = self._layers[name], self._sources[name]
        if not isinstance(self._along[name], Coordinates):
            return self._spread(layer, sources, point)
        tangents: dict[int, Tangent] = {}
        start = 0
        for part, source, size in zip(layer.parts, sources, layer.sizes, strict=True):
            of = part if isinstance(part, LeafSlice) else None
            inside = (point >= start) & (point < start + size)
            tangent = one_hot(self._leaves[source], point - start, inside, of)
            if source in tangents:
                tangent = dense(tangents[source]) + dense(tangent)
            tangents[source] = tangent
            start += size
        return tangents

    def _spread(self, layer: Layer, sources: Sequence[int], vector: jax.Array):
        tangents: dict[int, Tangent] = {}
        for part, source, own in zip(layer.parts, sources, layer.split(vector), strict=True):
            if isinstance(part, LeafSlice):
                own = part.put(jnp.zeros_like(self._leaves[source]), own)
            tangents[source] = own + dense(tangents[source]) if source in tangents else own
        return tangents

    def _is_dense(self, name: str) -> bool:
        """Whether a layer's tangents are dense where its own leg ends."""
        sparse = []

        def run(point):
            value, ends = self._first[name][0](self._begin(name, point))
            sparse.extend(end for end in ends.values() if isinstance(end, OneHot))
            return value

        jax.eval_shape(run, self._a_point(name))
        return not sparse

    def _leave(self, name: str, point: jax.Array) -> tuple[jax.Array, Tangents]:
        """A layer's own leg: its part of vᵀHv, and the tangents where it ends."""
        return self._alike(*self._first[name][0](self._begin(name, point)))

    def _pass(self, stop: Stop, value: jax.Array, tangents: Tangents):
        """The leg from a stop to the next."""
        more, ends = self._next[stop][0](tangents)
        more, ends = self._alike(more, ends)
        return value + more, ends

    def _alike(self, value: Any, tangents: Mapping[int, Tangent]) -> tuple[jax.Array, Tangents]:
        """Value and tangents with the dtypes and placements that all legs to a stop have."""
        dtype = widest(jnp.float32, *[layer.dtype for layer in self._layers.values()])
        zero = jnp.zeros_like(self._leaves[0].ravel()[0]).astype(dtype)
        ends = {v: _varying_as(self._avals[v], dense(t)) for v, t in tangents.items()}
        return zero + jnp.asarray(value).astype(dtype), ends

    def _at(self, name: str, point: jax.Array) -> jax.Array:
        value, tangents = self._leave(name, point)
        for stop in self._stops(name):
            value, tangents = self._pass(stop, value, tangents)
        return value.astype(self._layers[name].dtype)

    def _bytes(self, name):
        own = temporary_bytes(functools.partial(self._leave, name), self._a_point(name))
        return max([own, *(self._bytes_of(stop) for stop in self._stops(name))])

    def _bytes_of(self, stop):
        if stop not in self._taken:
            given = {variable: _zeros(self._avals[variable]) for variable in stop.variables}
            carried = sum(array.nbytes for array in given.values())
            run = lambda: self._pass(stop, jnp.float32(0.0), given)
            self._taken[stop] = carried + temporary_bytes(run)
        return self._taken[stop]


def trace_loss(
    total: Total, params: PyTree, layers: Mapping[str, Layer]
) -> tuple[Program, dict[str, list[int]], list[jax.Array]]:
    """Traces a loss in the leaves that belong to any of the layers.

    Returns:
      The program; for each layer, the program's input that holds each of its parts; the leaves.
    """
    order: list[str] = []
    sources: dict[str, list[int]] = {}
    for layer in layers.values():
        layer.leaves(params)  # says so if the params do not fit
    for name, layer in layers.items():
        sources[name] = []
        for part in layer.parts:
            path = path_of(part)
            if path not in order:
                order.append(path)
            sources[name].append(order.index(path))
    found = leaves_by_path(params)
    leaves = [jnp.asarray(found[path]) for path in order]
    whole = [
        Layer(p, (p,), (x.shape,), (str(x.dtype),)) for p, x in zip(order, leaves, strict=True)
    ]

    def of_leaves(*leaves):
        changed = params
        for layer, leaf in zip(whole, leaves, strict=True):
            changed = layer.replace_leaves(changed, (leaf,))
        return total(changed)

    return trace(of_leaves, *leaves), sources, leaves


def _zeros(aval):
    return _varying_as(aval, jnp.zeros(aval.shape, aval.dtype))


def _varying_as(aval, array):
    """The array, over the devices as different as a variable is."""
    missing = tuple(varying_axes(aval) - varying_axes(jax.typeof(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array
