"""Every mode against the dense Hessian, on every family of models."""

import functools
import warnings
from collections import OrderedDict

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.losses import as_weighted
from hgeo.probes.modes import MODES
from tests.probes.dense import LARGE, slow
from tests.probes.families import FAMILIES

SEEDS = (0, 1, 2)
NUM = 16
# Compiling is most of the time here.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def dense_diagonals(loss, params, batch, coordinates):
    """Entries of one dense `jax.hessian` in all layers' weights, and each layer's largest."""
    layers = [chosen.layer for chosen in coordinates.values()]
    leaves, unravel = jax.flatten_util.ravel_pytree([layer.leaves(params) for layer in layers])

    def mean(steps):
        changed = params
        for layer, step in zip(layers, unravel(steps), strict=True):
            moved = [x + dx for x, dx in zip(layer.leaves(changed), step, strict=True)]
            changed = layer.replace_leaves(changed, moved)
        value = as_weighted(loss, changed, batch)
        return value.total / value.weight

    diagonal = jnp.diagonal(jax.hessian(mean)(jnp.zeros_like(leaves)))
    found, start = OrderedDict(), 0
    for name, chosen in coordinates.items():
        own = diagonal[start : start + chosen.layer.size]
        found[name] = (own[chosen.indices], jnp.max(jnp.abs(own)))
        start += chosen.layer.size
    return found


def draw(layers, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that small layers give all they have
        return hgeo.sample_coordinates(layers, NUM, jax.random.key(seed))


def cast(tree, source, target):
    return jax.tree.map(lambda x: x.astype(target) if x.dtype == source else x, tree)


def probes_of(loss, chunk_size, modes=tuple(MODES)):
    """A jitted probe for each mode, compiled once for all seeds."""

    def probe(mode):
        return jax.jit(
            lambda params, batch, coordinates: hgeo.sampled_diagonal(
                loss, params, batch, coordinates, mode=mode, chunk_size=chunk_size
            ),
            compiler_options=QUICK,
        )

    return {mode: probe(mode) for mode in modes}


@pytest.mark.parametrize("family", slow(FAMILIES, ("bert_block", "decoder_block")))
def test_every_mode_agrees_with_the_dense_hessian_in_float64(family):
    with jax.enable_x64(True):
        loss = FAMILIES[family](jax.random.key(0)).loss
        probes = probes_of(loss, 2)
        dense = jax.jit(functools.partial(dense_diagonals, loss), compiler_options=QUICK)
        for seed in SEEDS:
            case = FAMILIES[family](jax.random.key(seed))
            coordinates = draw(case.layers, seed)
            expected = dense(case.params, case.batch, coordinates)
            # What is announced is among what is lowered and run.
            choice = hgeo.choose_mode(case.loss, case.params, case.batch, coordinates)
            assert choice.vmapped
            assert choice.mode in probes
            for probe in probes.values():
                found = probe(case.params, case.batch, coordinates)
                check(found, expected, 1e-10, 1e-9, np.float64)


@pytest.mark.parametrize("family", slow(FAMILIES, LARGE))
def test_every_mode_agrees_with_the_dense_hessian_in_float32(family):
    case = FAMILIES[family](jax.random.key(0))
    modes = tuple(mode for mode in MODES if mode != "reverse_over_reverse")
    probes = probes_of(case.loss, 4, modes)
    with jax.enable_x64(True):
        wide = FAMILIES[family](jax.random.key(0)).loss
        dense = jax.jit(functools.partial(dense_diagonals, wide), compiler_options=QUICK)
    for seed in SEEDS:
        case = FAMILIES[family](jax.random.key(seed))
        coordinates = draw(case.layers, seed)
        with jax.enable_x64(True):
            params, batch = cast((case.params, case.batch), jnp.float32, jnp.float64)
            layers = FAMILIES[family](jax.random.key(0)).layers
            chosen = OrderedDict(
                (name, hgeo.Coordinates(layers[name], own.indices))
                for name, own in coordinates.items()
            )
            expected = dense(params, batch, chosen)
        for probe in probes.values():
            check(probe(case.params, case.batch, coordinates), expected, 1e-5, 1e-4, np.float32)


def check(found, expected, tolerance, ratio_tolerance, dtype):
    assert list(found) == list(expected)
    for name, (entries, largest) in expected.items():
        assert found[name].dtype == dtype
        error = np.max(np.abs(np.asarray(found[name], np.float64) - np.asarray(entries)))
        assert error <= tolerance * float(largest), (name, error, float(largest))
        ratio = float(_ratio(entries))
        if np.isfinite(ratio):
            assert abs(float(_ratio(found[name])) / ratio - 1) < ratio_tolerance, (name, ratio)


def _ratio(entries):
    magnitude = np.abs(np.asarray(entries, np.float64))
    return np.max(magnitude) / np.median(magnitude)
