"""The same numbers on any number of devices, and under `jax.pmap`."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.devices import (
    AXIS,
    PROBES_ON_CPU,
    PROBES_ON_GPU,
    REPLICATED,
    compiler_options,
    data_parallel,
    make_mesh,
)
from hgeo.optimizers import make_optimizer
from hgeo.training.updates import TrainState, Updates, update_on_device
from hgeo.workloads.registry import make_workload
from tests.experiments import load_config, rows, run

SMALL = {"probe__layers": (1, 4), "model__num_blocks": 1}


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    run(load_config("quickstart", "smoke", **SMALL), folder)
    return folder


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_any_number_of_devices(on_eight, tmp_path, monkeypatch, number):
    monkeypatch.setattr(
        "hgeo.experiment.shared_resources.make_mesh", lambda: make_mesh(jax.devices()[:number])
    )
    run(load_config("quickstart", "smoke", **SMALL), tmp_path)
    for name, column in (("losses", "loss"), ("geometry", "value")):
        for few, eight in zip(rows(tmp_path, name), rows(on_eight, name), strict=True):
            value = float(few.pop(column)), float(eight.pop(column))
            np.testing.assert_allclose(*value, rtol=2e-3, err_msg=str(few))


@pytest.fixture(scope="module")
def workload():
    return make_workload(
        load_config("quickstart", "smoke", model__num_blocks=1, model__dropout=0.1)
    )


def test_an_update_under_pmap(workload):
    """The per-device function is what `pmap` takes; each example has its own dropout."""
    with jax.numpy_dtype_promotion("standard"):
        rate = np.float32(1e-2)
        # Adam would divide the rounding of a zero gradient (a key's bias) by its own size.
        optimizer_of = lambda rate: make_optimizer(
            "sgdm", {"learning_rate": 1.0, "momentum": 0.9}, rate=rate
        )
        variables = workload.init(jax.random.key(0))
        state = TrainState(variables, optimizer_of(rate).init(variables["params"]), jnp.int32(3))
        examples = jax.tree.map(jnp.asarray, workload.examples)
        batch = np.arange(16, dtype=np.int32)
        key = jax.random.key(1)

        function = update_on_device(workload, optimizer_of, key)
        mapped = jax.pmap(function, axis_name=AXIS, in_axes=(None, None, 0, None))
        by_pmap, info = mapped(state, examples, batch.reshape(8, 2), rate)
        copy = jax.tree.map(jnp.copy, state)
        updates = Updates(workload, optimizer_of, key, make_mesh())
        ours, one = updates.alone(copy, examples, batch, rate)
    np.testing.assert_allclose(info.loss, np.full(8, one.loss), rtol=1e-6)
    np.testing.assert_array_equal(info.not_finite, np.full(8, -1))
    for many, one in zip(jax.tree.leaves(by_pmap), jax.tree.leaves(ours), strict=True):
        assert many.shape == (8, *one.shape)
        np.testing.assert_allclose(many[0], one, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(many[0], many[7])


def test_dropout_is_that_of_the_examples_on_any_number_of_devices(workload):
    """Of one example everywhere, the masks of the batch's places differ from each other."""
    optimizer_of = lambda rate: make_optimizer("sgd", {"learning_rate": 1.0}, rate=rate)
    variables = workload.init(jax.random.key(0))
    examples = jax.tree.map(jnp.asarray, workload.examples)

    def loss(number, indices, step=3):
        state = TrainState(
            jax.tree.map(jnp.copy, variables), optimizer_of(1.0).init({}), jnp.int32(step)
        )
        mesh = make_mesh(jax.devices()[:number])
        updates = Updates(workload, optimizer_of, jax.random.key(1), mesh)
        return float(updates.alone(state, examples, indices, np.float32(0.1))[1].loss)

    batch = np.arange(16, dtype=np.int32)
    for number in (2, 8):
        np.testing.assert_allclose(loss(number, batch), loss(1, batch), rtol=1e-6)
    assert abs(loss(1, batch, step=4) - loss(1, batch)) > 1e-4
    same = np.zeros(16, np.int32)
    halves = [loss(1, same[:8]), loss(1, same)]
    assert abs(halves[0] - halves[1]) > 1e-5, "the second eight have masks of their own"


def test_a_probe_under_pmap(workload):
    params = workload.init(jax.random.key(0))["params"]
    layers = hgeo.find_layers(params, workload.layer_paths[:3])
    coordinates = hgeo.sample_coordinates(layers, 5, jax.random.key(1))
    batch = {name: array[:16] for name, array in workload.examples.items()}
    loss = lambda params, batch: workload.loss({"params": params}, batch)

    def on_device(params, batch):
        return hgeo.sampled_diagonal(loss, params, batch, coordinates, axis_name=AXIS)

    split = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
    by_pmap = jax.pmap(on_device, axis_name=AXIS, in_axes=(None, 0))(params, split)
    ours = hgeo.make_probe(loss, coordinates)(params, batch)
    for name, entries in ours.items():
        np.testing.assert_allclose(by_pmap[name][0], entries, rtol=1e-5, atol=1e-7)


def test_compiler_options_of_probes():
    mesh = make_mesh(jax.devices()[:1])
    assert compiler_options(mesh, [1.0]) == PROBES_ON_CPU
    gpu = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform="gpu")]))
    assert compiler_options(gpu, [1.0]) == PROBES_ON_GPU
    within = []
    jax.jit(lambda x: within.append(compiler_options(gpu, [{"x": x}])))(1.0)
    assert within == [None]
    # XLA knows their names on every platform, and refuses one that it does not know.
    program = data_parallel(
        lambda x: 2 * x, mesh, (REPLICATED,), REPLICATED, compiler_options=PROBES_ON_GPU
    )
    assert program(jnp.float32(3.0)) == 6.0


def test_a_compiled_probe_under_a_wide_head_takes_less_memory_on_a_cpu():
    names = ("first", "second", "third", "head")
    keys = dict(zip(names, jax.random.split(jax.random.key(0), len(names)), strict=True))
    params = {
        name: jax.random.normal(key, (16, 512 if name == "head" else 16)) / 4
        for name, key in keys.items()
    }
    batch = jnp.ones((256, 16))

    def loss(params, batch):
        for name in names[:-1]:
            batch = jnp.tanh(batch @ params[name])
        logits = batch @ params["head"]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[:, 0])

    coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 6, jax.random.key(1))
    plain = jax.jit(lambda params, batch: hgeo.sampled_diagonal(loss, params, batch, coordinates))
    probe = hgeo.make_probe(loss, coordinates, devices=jax.devices()[:1])
    sizes = [
        program.lower(params, batch).compile().memory_analysis().temp_size_in_bytes
        for program in (probe, plain)
    ]
    assert sizes[0] < 0.9 * sizes[1], sizes
    jax.tree.map(np.testing.assert_array_equal, probe(params, batch), plain(params, batch))
