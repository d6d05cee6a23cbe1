"""Nested automatic differentiation: the two plain ways to an entry of a Hessian diagonal.

Both differentiate the probed layer alone and close over every other weight, so that only what lies
above the layer is differentiated twice.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.probes.coordinates import Coordinates
from hgeo.probes.memory import ChunkSize, chunk_of

PyTree = Any
Total = Callable[[PyTree], jax.Array]


def forward_over_reverse(
    total: Total,
    params: PyTree,
    coordinates: Mapping[str, Coordinates],
    chunk_size: int | ChunkSize,
) -> "OrderedDict[str, jax.Array]":
    """H_ii = (∂/∂ε ∇f(w + ε e_i))_i at ε = 0: `jax.jvp` over `jax.grad`."""

    def entry(f, weights, index):
        tangent = _one_hot(index, weights)
        return jnp.vdot(tangent, jax.jvp(jax.grad(f), (weights,), (tangent,))[1])

    return _each(entry, total, params, coordinates, chunk_size)


def forward_over_forward(
    total: Total,
    params: PyTree,
    coordinates: Mapping[str, Coordinates],
    chunk_size: int | ChunkSize,
) -> "OrderedDict[str, jax.Array]":
    """H_ii = d²/dε² f(w + ε e_i) at ε = 0: `jax.jvp` over `jax.jvp`, no backward pass."""

    def entry(f, weights, index):
        tangent = _one_hot(index, weights)
        slope = lambda w: jax.jvp(f, (w,), (tangent,))[1]
        return jax.jvp(slope, (weights,), (tangent,))[1]

    return _each(entry, total, params, coordinates, chunk_size)


def _each(entry, total, params, coordinates, chunk_size):
    results = OrderedDict()
    for name, chosen in coordinates.items():
        layer = chosen.layer
        f = lambda weights, layer=layer: total(layer.replace(params, weights))
        weights = layer.ravel(params)
        of_index = lambda index, f=f, weights=weights: entry(f, weights, index)
        size = chunk_of(chunk_size, name, of_index, chosen.indices)
        results[name] = jax.lax.map(of_index, chosen.indices, batch_size=size)
    return results


def _one_hot(index, weights):
    # Built from the weights, so that under shard_map it varies over the devices as they do.
    return jnp.zeros_like(weights).at[index].set(1.0)
