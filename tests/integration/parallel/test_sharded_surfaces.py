"""Monitors, NNX models and the functions that callers jit, on params that lie in shards."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import hgeo
from tests import sharded_models as sharded
from tests.integration.parallel.nnx_decoder import by_rules, decoder
from tests.integration.parallel.test_sharded_params import AXIS_TYPES, check_equal
from tests.probes.dense import quick

KEY = jax.random.key(7)
FEW = "up|down"


def quadratic_forms(params, batch, layers):
    directions = {
        name: hgeo.Directions(layer, jax.random.normal(KEY, (2, layer.size), layer.dtype))
        for name, layer in layers.items()
    }
    return hgeo.quadratic_forms(sharded.loss, params, batch, directions)


FUNCTIONS = {
    "full_diagonal": lambda params, batch, layers: hgeo.full_diagonal(
        sharded.loss, params, batch, layers
    ),
    "stochastic_diagonal": lambda params, batch, layers: hgeo.stochastic_diagonal(
        sharded.loss, params, batch, layers, KEY, 4
    ),
    "quadratic_forms": quadratic_forms,
    "row_dominance": lambda params, batch, layers: hgeo.row_dominance(
        sharded.loss, params, batch, hgeo.sample_coordinates(layers, 3, KEY)
    ),
    "spectrum": lambda params, batch, layers: hgeo.spectrum(
        sharded.loss, params, batch, next(iter(layers.values())), KEY, num_matvecs=4, num_samples=2
    ),
}


SLOWLY = pytest.param("explicit", marks=pytest.mark.slow)


@pytest.mark.parametrize("axis_type", ["automatic", SLOWLY])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_under_the_callers_jit(name, axis_type):
    with jax.enable_x64(True):
        params, batch = sharded.init_params(jnp.float64), sharded.make_batch()
        layers = hgeo.find_layers(params, FEW)
        function = lambda params, batch: FUNCTIONS[name](params, batch, layers)
        mesh = sharded.mesh_of("both", AXIS_TYPES[axis_type])
        found = quick(function)(*sharded.placed(params, batch, mesh, "both"))
        expected = quick(function)(params, batch)
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
        for own, one in pairs:
            np.testing.assert_allclose(own, one, rtol=1e-7, atol=1e-10 * np.abs(one).max())


@pytest.mark.parametrize(
    "kind",
    ["both", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("fsdp", "tensor"))],
)
def test_an_nnx_decoder_with_rules_for_logical_axes(kind):
    loss, params = decoder()
    batch = sharded.make_batch()
    batch = jax.tree.map(lambda tokens: tokens % 24, batch)
    coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 4, KEY)
    mesh = sharded.mesh_of(kind)
    split = jax.device_put(batch, NamedSharding(mesh, sharded.BATCH))
    found = hgeo.make_probe(loss, coordinates)(by_rules(params, mesh), split)
    one = hgeo.make_probe(loss, coordinates, devices=jax.devices()[:1])(params, batch)
    check_equal(found, one, 2e-5)


STATISTICS = (
    *("r_med", "r_diag", "alignment", "preconditioned", "low_rank", "spectrum", "full"),
    *("r_med_spread", "preconditioned_spectrum"),
)


@pytest.mark.parametrize("axis_type", ["automatic", SLOWLY])
def test_a_monitor_of_every_statistic(axis_type):
    optimizer = optax.adam(1e-2)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        params, batch = sharded.init_params(jnp.float64), sharded.make_batch()
        layers = hgeo.find_layers(params, FEW)

        def values(params, batch, **where):
            state = jax.jit(optimizer.init)(params)
            gradient = jax.jit(jax.grad(sharded.loss))(params, batch)
            updates = jax.tree.map(lambda leaf: -2.0 * leaf, gradient)
            monitor = hgeo.Monitor(
                sharded.loss,
                layers,
                num=4,
                statistics=STATISTICS,
                num_matvecs=4,
                num_samples=2,
                optimizer=optimizer,
                preconditioner={"b2": 0.999},
                **where,
            )
            first = monitor(0, params, batch, optimizer_state=state)
            more = {"optimizer_state": state, "gradient": gradient, "updates": updates}
            return [first, monitor(100, params, batch, **more)]

        one = values(params, batch, devices=jax.devices()[:1])
        mesh = sharded.mesh_of("both", AXIS_TYPES[axis_type])
        if AXIS_TYPES[axis_type] == AxisType.Explicit:
            stack.enter_context(jax.set_mesh(mesh))
        found = values(*sharded.placed(params, batch, mesh, "both"))
        for own, expected in zip(found, one, strict=True):
            assert own.keys() == expected.keys()
            for name, value in expected.items():
                np.testing.assert_allclose(own[name], value, rtol=1e-6, err_msg=name)


def test_microbatches_of_a_batch_in_shards():
    params, batch = sharded.init_params(jnp.float32), sharded.make_batch()
    coordinates = sharded.coordinates_of(params)
    given = sharded.placed(params, batch, sharded.mesh_of("fsdp"), "fsdp")
    one = hgeo.make_probe(sharded.loss, coordinates, devices=jax.devices()[:1])(params, batch)
    probe = hgeo.make_probe(sharded.loss, coordinates, microbatch_size=4)
    check_equal(probe(*given), one, 2e-5)


def test_a_loss_that_names_the_axes():
    """The program is traced with the params' mesh set, for `with_sharding_constraint`."""
    mesh = sharded.mesh_of("fsdp")

    def constrained(params, batch):
        whole = jax.lax.with_sharding_constraint(params["w"], PartitionSpec())
        split = jax.lax.with_sharding_constraint(batch @ whole, PartitionSpec("fsdp"))
        return jnp.mean(jnp.tanh(split) ** 2)

    params = {"w": np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)}
    batch = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 4, KEY)
    placed = jax.device_put(params, NamedSharding(mesh, PartitionSpec("fsdp")))
    found = hgeo.make_probe(constrained, coordinates, batch_spec="fsdp")(placed, batch)
    plain = lambda params, batch: jnp.mean(jnp.tanh(batch @ params["w"]) ** 2)
    one = hgeo.make_probe(plain, coordinates, devices=jax.devices()[:1])(params, batch)
    check_equal(found, one, 2e-5)
