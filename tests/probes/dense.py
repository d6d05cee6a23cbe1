"""Dense float64 Hessians by `jax.hessian`, the reference for the probes."""

import dataclasses
import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.losses import as_weighted
from tests.probes.families import FAMILIES, Case
from tests.xla_options import QUICK


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def mean_of(loss, params, batch):
    value = as_weighted(loss, params, batch)
    return value.total / value.weight


def dense_hessian(loss, params, batch, layer):
    """H of the mean loss in a layer's flat vector."""
    mean = lambda params, batch, vector: mean_of(loss, layer.replace(params, vector), batch)
    return quick(jax.hessian(mean, argnums=2))(params, batch, layer.ravel(params))


def joint_hessian(loss, params, batch, layers):
    """H of the mean loss in the flat vectors of several layers, one after the other.

    Layers may share leaves: each has rows of its own.
    """
    layers = list(layers.values())
    zeros, unravel = jax.flatten_util.ravel_pytree(
        [jax.tree.map(jnp.zeros_like, layer.leaves(params)) for layer in layers]
    )

    def mean(steps):
        changed = params
        for layer, step in zip(layers, unravel(steps), strict=True):
            moved = [x + dx for x, dx in zip(layer.leaves(changed), step, strict=True)]
            changed = layer.replace_leaves(changed, moved)
        return mean_of(loss, changed, batch)

    return jax.hessian(mean)(zeros)


def entries_of(loss, params, batch, coordinates):
    """Some entries of the diagonals alone, by nested `jax.jvp` along each unit vector."""
    layers = {name: chosen.layer for name, chosen in coordinates.items()}
    vectors = {name: layer.ravel(params) for name, layer in layers.items()}

    def mean(vectors):
        changed = params
        for name, vector in vectors.items():
            changed = layers[name].replace(changed, vector)
        return mean_of(loss, changed, batch)

    def entry(unit):
        slope = lambda at: jax.jvp(mean, (at,), (unit,))[1]
        return jax.jvp(slope, (vectors,), (unit,))[1]

    flat, unravel = jax.flatten_util.ravel_pytree(vectors)
    starts = spans(dict(sorted(layers.items())))  # as a dict is ravelled
    places = [starts[name].start + chosen.indices for name, chosen in coordinates.items()]
    units = jax.nn.one_hot(jnp.concatenate(places), flat.size, dtype=flat.dtype)
    entries = jax.vmap(entry)(jax.vmap(unravel)(units))
    ends = np.cumsum([len(place) for place in places])[:-1]
    return dict(zip(coordinates, jnp.split(entries, ends), strict=True))


def spans(layers):
    """The rows of each layer in the joint Hessian."""
    ends = np.cumsum([layer.size for layer in layers.values()])
    starts = [0, *ends[:-1].tolist()]
    return {name: slice(start, end) for name, start, end in zip(layers, starts, ends, strict=True)}


def narrow_case(family, seed=0):
    with jax.enable_x64(False):
        return FAMILIES[family](jax.random.key(seed))


@functools.cache
def wide_case(family, seed=0):
    """A family's case in float64, with the values that it has in float32."""
    narrow = narrow_case(family, seed)
    with jax.enable_x64(True):
        params, batch = jax.tree.map(
            lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x,
            (narrow.params, narrow.batch),
        )
    layers = type(narrow.layers)(
        (name, dataclasses.replace(layer, dtypes=("float64",) * len(layer.dtypes)))
        for name, layer in narrow.layers.items()
    )
    # The first seed's, so that all seeds share the compiled programs.
    loss = narrow.loss if seed == 0 else wide_case(family).loss
    return Case(loss, params, batch, layers)


@functools.cache
def _program(family):
    loss, _, _, layers = wide_case(family)
    return quick(lambda params, batch: joint_hessian(loss, params, batch, layers))


@functools.cache
def hessian(family, seed=0):
    """The joint Hessian of a family's layers, by one program for all seeds and tests."""
    case = wide_case(family, seed)
    with jax.enable_x64(True):
        return np.asarray(_program(family)(case.params, case.batch))


def diagonals(family, seed=0):
    """The diagonal of each layer."""
    diagonal = np.diagonal(hessian(family, seed))
    return {name: diagonal[span] for name, span in spans(wide_case(family).layers).items()}


def error(found, truth):
    """The largest difference in units of the largest entry."""
    return float(jnp.max(jnp.abs(found - truth)) / jnp.max(jnp.abs(truth)))


def slow(names, marked):
    """Names as parameters of a test, some of them marked as slow."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in marked else n for n in names]
