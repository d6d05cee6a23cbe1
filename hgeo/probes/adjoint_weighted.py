"""Adjoint-weighted forward mode: an exact Hessian-diagonal entry from one tangent sweep.

For a program with intermediate values u_k = φ_k(inputs) and output L, the second-order chain rule
along a direction e of the weights reads

    eᵀHe = Σ_k ⟨ v̄_k , φ_k''[u̇, u̇] ⟩,   v̄_k = ∂L/∂u_k,   u̇ = the forward tangent along e,

over the equations φ_k that are not linear in what moves. Values and adjoints are the same for
every coordinate of every layer, and are computed once.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.losses import varying_axes
from hgeo.probes.coordinates import Coordinates
from hgeo.probes.directions import Directions, Forms
from hgeo.probes.layers import Layer, LeafSlice, leaves_by_path
from hgeo.probes.program import Program, active, reaching, trace
from hgeo.probes.second_order import Rules
from hgeo.probes.sweep import Sweep
from hgeo.probes.tangents import Tangent, dense, one_hot

PyTree = Any
Total = Callable[[PyTree], jax.Array]


def adjoint_weighted(
    total: Total,
    params: PyTree,
    along: Mapping[str, Coordinates] | Mapping[str, Directions],
) -> Forms:
    """vᵀHv by one forward tangent sweep a direction, weighted by adjoints computed once.

    Reference:
      The second-order chain rule; Gower and Mello, A new framework for the computation of Hessians
      (2012), and Martens, Sutskever and Swersky, Curvature propagation (2012), use relatives of it.
    """
    sweeps = Sweeps(total, params, along)
    return {
        name: sweeps.entry(name) if isinstance(chosen, Coordinates) else sweeps.form(name)
        for name, chosen in along.items()
    }


class Sweeps:
    """The sweeps of several layers over one traced loss, sharing values and adjoints."""

    def __init__(
        self,
        total: Total,
        params: PyTree,
        along: Mapping[str, Coordinates] | Mapping[str, Directions],
    ):
        """Traces the loss and runs it once forward and once backward."""
        layers = {name: chosen.layer for name, chosen in along.items()}
        self.layers = layers
        self.program, self._sources, self._leaves = trace_loss(total, params, layers)
        rules, needed = Rules(self.program), reaching(self.program)
        equations = {
            name: active(self.program, needed, sorted(set(sources)))
            for name, sources in self._sources.items()
        }
        curved = {
            variable
            for pairs in equations.values()
            for equation, free in pairs
            if not rules.is_linear(equation, free)
            for variable in equation.outputs
            if jnp.issubdtype(self.program.avals[variable].dtype, jnp.inexact)
        }
        taps = {variable: _zeros(self.program.avals[variable]) for variable in sorted(curved)}

        def run(taps):
            values = self.program.run(self._leaves, taps)
            return values[self.program.output], values

        adjoints, values = jax.grad(run, has_aux=True)(taps)
        adjoints = {variable: self._own(variable, x) for variable, x in adjoints.items()}
        num: dict[int, int] = {}
        for name, pairs in equations.items():
            for equation, _ in pairs:
                out = equation.outputs[0]
                num[out] = num.get(out, 0) + along[name].points.shape[0]
        shared: dict[Any, Any] = {}
        self._sweeps = {
            name: Sweep(rules, pairs, values, adjoints, self._sources[name], num, shared)
            for name, pairs in equations.items()
        }

    def _own(self, variable: int, adjoint: jax.Array) -> jax.Array:
        # What the devices have in common (after a collective) would be summed over them again.
        axes = varying_axes(self.program.avals[self.program.output])
        shared = axes - varying_axes(self.program.avals[variable])
        devices = math.prod(jax.lax.axis_size(axis) for axis in shared)
        return adjoint / devices if devices > 1 else adjoint

    def entry(self, name: str) -> Callable[[jax.Array], jax.Array]:
        """The diagonal entry of a layer as a function of the position in its flat vector."""
        layer, sources = self.layers[name], self._sources[name]

        def of_index(index):
            tangents: dict[int, Tangent] = {}
            start = 0
            for part, source, size in zip(layer.parts, sources, layer.sizes, strict=True):
                fixed = part.index if isinstance(part, LeafSlice) else None
                inside = (index >= start) & (index < start + size)
                tangent = one_hot(self._leaves[source], index - start, inside, fixed)
                if source in tangents:
                    tangent = dense(tangents[source]) + dense(tangent)
                tangents[source] = tangent
                start += size
            return self._value(name, tangents)

        return of_index

    def form(self, name: str) -> Callable[[jax.Array], jax.Array]:
        """The quadratic form vᵀHv of a layer as a function of v, its flat vector."""
        layer, sources = self.layers[name], self._sources[name]

        def of_vector(vector):
            tangents: dict[int, Tangent] = {}
            for part, source, own in zip(layer.parts, sources, layer.split(vector), strict=True):
                if isinstance(part, LeafSlice):
                    own = jnp.zeros_like(self._leaves[source]).at[part.index].set(own)
                tangents[source] = own + dense(tangents[source]) if source in tangents else own
            return self._value(name, tangents)

        return of_vector

    def _value(self, name, tangents):
        value = jnp.asarray(self._sweeps[name](tangents))
        dtype = self.layers[name].dtype
        zero = jnp.zeros_like(self._leaves[self._sources[name][0]].ravel()[0]).astype(dtype)
        return zero + value.astype(dtype)


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
            path = part.path if isinstance(part, LeafSlice) else part
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
    zeros = jnp.zeros(aval.shape, aval.dtype)
    varying = tuple(varying_axes(aval))
    return jax.lax.pcast(zeros, varying, to="varying") if varying else zeros
