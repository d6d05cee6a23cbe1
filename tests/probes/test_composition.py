"""Probes inside jit, vmap, shard_map and pmap, in microbatches, and over all devices."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import hgeo
from hgeo.devices import make_mesh
from hgeo.second_order.modes import MODES
from tests.probes.dense import entries_of, quick, slow

NUM_DEVICES = 4
EVERY_MODE = pytest.mark.parametrize("mode", MODES)
OTHER_MODES = [mode for mode in MODES if mode != "adjoint_weighted"]
# Devices change the inputs of all modes, and little within a mode.
ONE_MODE = pytest.mark.parametrize("mode", slow(MODES, OTHER_MODES))


def loss(params, batch, axis=None):
    """Masked cross-entropy of a net with BatchNorm, synchronised over `axis`, and dropout."""
    hidden = batch["x"] @ params["w1"]
    mean, square = jnp.mean(hidden, axis=0), jnp.mean(hidden**2, axis=0)
    if axis is not None:
        mean, square = jax.lax.pmean((mean, square), axis)
    hidden = (hidden - mean[None]) / jnp.sqrt(square - mean**2 + 1e-3)[None]
    logits = jax.nn.gelu(hidden) @ params["w2"]
    each = jax.nn.logsumexp(logits, axis=-1) - logits[:, 0] * batch["y"]
    return hgeo.Weighted(jnp.sum(batch["mask"] * each), jnp.sum(batch["mask"]))


def plain_loss(params, batch):
    """A loss that does not mix the examples."""
    logits = jnp.tanh(batch["x"] @ params["w1"]) @ params["w2"]
    each = jax.nn.logsumexp(logits, axis=-1) - logits[:, 0] * batch["y"]
    return hgeo.Weighted(jnp.sum(batch["mask"] * each), jnp.sum(batch["mask"]))


def _case():
    keys = jax.random.split(jax.random.key(0), 4)
    params = {"w1": jax.random.normal(keys[0], (3, 6)), "w2": jax.random.normal(keys[1], (6, 2))}
    batch = {
        "x": jax.random.normal(keys[2], (8, 3)),
        "y": jax.random.uniform(keys[3], (8,)),
        "mask": jnp.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0]),
    }
    return params, batch, hgeo.sample_coordinates(hgeo.find_layers(params), 9, jax.random.key(1))


PARAMS, BATCH, COORDINATES = _case()


def expected_of(loss, params=PARAMS, batch=BATCH):
    return quick(lambda p, b: entries_of(loss, p, b, COORDINATES))(params, batch)


@functools.cache
def reference(loss=loss):
    return expected_of(loss)


def assert_same(found, expected, tolerance=1e-5):
    assert list(found) == list(expected)
    for name in expected:
        scale = float(np.max(np.abs(expected[name])))
        np.testing.assert_allclose(found[name], expected[name], atol=tolerance * scale)


@EVERY_MODE
def test_jit_keeps_values_and_order_and_compiles_once(mode):
    traces = []

    @quick
    def probe(params, batch, coordinates):
        traces.append(1)
        return hgeo.sampled_diagonal(loss, params, batch, coordinates, mode=mode)

    reversed_order = dict(reversed(COORDINATES.items()))
    for _ in range(2):
        found = probe(PARAMS, BATCH, COORDINATES)
    assert len(traces) == 1
    assert_same(found, reference())
    part = jax.eval_shape(  # as a constant: an argument that is a plain dict comes in sorted
        lambda p, b: hgeo.sampled_diagonal(loss, p, b, reversed_order, mode=mode), PARAMS, BATCH
    )
    assert list(part) == ["w2", "w1"]


@ONE_MODE
def test_vmap_over_stacked_params(mode):
    other = jax.tree.map(lambda x: 0.5 * x + 0.1, PARAMS)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), PARAMS, other)
    probe = functools.partial(hgeo.sampled_diagonal, loss, mode=mode)
    found = quick(jax.vmap(probe, in_axes=(0, None, None)))(stacked, BATCH, COORDINATES)
    assert_same({n: x[0] for n, x in found.items()}, reference())
    assert_same({n: x[1] for n, x in found.items()}, expected_of(loss, other))


def _per_device(mode):
    return functools.partial(
        hgeo.sampled_diagonal,
        functools.partial(loss, axis="data"),
        mode=mode,
        axis_name="data",
        chunk_size=4,
    )


@pytest.mark.parametrize("check_vma", [True, pytest.param(False, marks=pytest.mark.slow)])
@EVERY_MODE
def test_shard_map_gives_single_device_values(mode, check_vma):
    whole, split = PartitionSpec(), PartitionSpec("data")
    mapped = jax.shard_map(
        _per_device(mode),
        mesh=make_mesh(jax.devices()[:NUM_DEVICES]),
        in_specs=(whole, split, whole),
        out_specs=whole,
        check_vma=check_vma,
    )
    assert_same(quick(mapped)(PARAMS, BATCH, COORDINATES), reference())


@ONE_MODE
def test_pmap_gives_single_device_values(mode):
    mapped = jax.pmap(
        _per_device(mode),
        axis_name="data",
        in_axes=(None, 0, None),
        devices=jax.devices()[:NUM_DEVICES],
    )
    split = jax.tree.map(lambda x: x.reshape(NUM_DEVICES, -1, *x.shape[1:]), BATCH)
    found = mapped(PARAMS, split, COORDINATES)
    for device in range(NUM_DEVICES):
        assert_same({name: found[name][device] for name in COORDINATES}, reference())


@pytest.mark.parametrize("num_devices", [pytest.param(1, marks=pytest.mark.slow), 4])
@ONE_MODE
def test_make_probe_over_devices(mode, num_devices):
    probe = hgeo.make_probe(
        functools.partial(loss, axis="data"),
        COORDINATES,
        mode=mode,
        devices=jax.devices()[:num_devices],
    )
    found = probe(PARAMS, BATCH)
    assert_same(found, reference())
    assert probe.mode == mode
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves((PARAMS, BATCH)))


@pytest.mark.parametrize(
    ("mode", "size"),
    [
        *itertools.product(MODES, [3]),
        *itertools.product(["adjoint_weighted"], [4, 11]),
        pytest.param("adjoint_weighted", 1, marks=pytest.mark.slow),
        *(
            pytest.param(mode, size, marks=pytest.mark.slow)
            for mode, size in itertools.product(OTHER_MODES, [1, 4, 8, 11])
        ),
    ],
)
def test_microbatches_ragged_ones_too_add_up(mode, size):
    probe = functools.partial(
        hgeo.sampled_diagonal, plain_loss, mode=mode, microbatch_size=size, chunk_size=3
    )
    assert_same(quick(probe)(PARAMS, BATCH, COORDINATES), reference(plain_loss))


def test_microbatches_of_a_mean_count_by_their_examples():
    mean = lambda params, batch: jnp.mean((jnp.tanh(batch["x"] @ params["w1"]) @ params["w2"]) ** 3)
    probe = functools.partial(hgeo.sampled_diagonal, mean, microbatch_size=3)
    assert_same(quick(probe)(PARAMS, BATCH, COORDINATES), expected_of(mean))


def test_microbatches_on_devices():
    probe = hgeo.make_probe(
        plain_loss, COORDINATES, microbatch_size=1, devices=jax.devices()[:NUM_DEVICES]
    )
    assert_same(probe(PARAMS, BATCH), reference(plain_loss))


@EVERY_MODE
def test_a_dropout_key_gives_every_coordinate_the_same_mask(mode):
    key = jax.random.key(7)

    def dropped(params, batch, keep=None):
        hidden = jnp.tanh(batch["x"] @ params["w1"])
        keep = jax.random.bernoulli(batch["key"], 0.5, hidden.shape) if keep is None else keep
        return jnp.mean((jnp.where(keep, hidden, 0.0) @ params["w2"]) ** 4)

    batch = {"x": BATCH["x"], "key": key}
    probe = functools.partial(hgeo.sampled_diagonal, mode=mode, chunk_size=2)
    both = lambda *given: (probe(dropped, *given), probe(dropped, *given, microbatch_size=4))
    found, halves = quick(both)(PARAMS, batch, COORDINATES)
    keep = jax.random.bernoulli(key, 0.5, (8, 6))
    assert_same(found, expected_of(functools.partial(dropped, keep=keep), PARAMS, batch))
    assert all(np.all(np.isfinite(x)) for x in halves.values())
