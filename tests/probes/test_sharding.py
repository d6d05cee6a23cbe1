"""Sharded params stay where they are; bad combinations of options raise an error."""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import hgeo
from hgeo.devices import pin, shares_of, spread
from hgeo.second_order.wide_product import WideProduct
from tests.probes.test_collectives import COLLECTIVE, SHAPE, bytes_of

P = PartitionSpec
RNG = np.random.default_rng(0)
PARAMS = {
    "up": RNG.normal(size=(8, 24)).astype(np.float32) / 3,
    "down": RNG.normal(size=(24, 4)).astype(np.float32) / 5,
}
BATCH = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(8, 8)
SPECS = {"up": P(None, "model"), "down": P("model", None)}


def loss(params, batch):
    return jnp.mean((jnp.tanh(batch @ params["up"]) @ params["down"]) ** 2)


def mesh_of(shape=(4, 2), axis_type=AxisType.Auto, devices=None):
    return jax.make_mesh(shape, ("data", "model"), axis_types=(axis_type,) * 2, devices=devices)


def on(mesh, params=PARAMS):
    return {name: jax.device_put(params[name], NamedSharding(mesh, SPECS[name])) for name in params}


@pytest.fixture(scope="module")
def coordinates():
    return hgeo.sample_coordinates(hgeo.find_layers(PARAMS), 4, jax.random.key(0))


@pytest.fixture(scope="module")
def expected(coordinates):
    def of_layer(own):
        flat = lambda vector: loss(own.layer.replace(PARAMS, vector), BATCH)
        hessian = jax.hessian(flat)(own.layer.ravel(PARAMS))
        return jnp.diagonal(hessian)[own.indices]

    return {name: of_layer(own) for name, own in coordinates.items()}


def check(found, expected):
    for name, entries in expected.items():
        np.testing.assert_allclose(found[name], entries, rtol=1e-4, atol=1e-6)


def test_params_stay_in_their_shards(coordinates, expected):
    probe = hgeo.make_probe(loss, coordinates, batch_spec="data")
    params = on(mesh_of())
    entries = probe(params, BATCH)
    check(entries, expected)
    assert all(own.sharding.is_fully_replicated for own in entries.values())
    program = probe.lower(params, BATCH).compile()
    given = program.input_shardings[0][0]
    assert given["up"].spec == P(None, "model")
    gathered = [
        bytes_of(*array)
        for result, kind in COLLECTIVE.findall(program.as_text())
        if kind == "all-gather"
        for array in SHAPE.findall(result)
    ]
    assert max(gathered, default=0) <= PARAMS["up"].nbytes


def test_explicit_axes_and_coordinates_over_devices(coordinates, expected):
    mesh = mesh_of(axis_type=AxisType.Explicit)
    batch = jax.device_put(BATCH, NamedSharding(mesh, P("data")))

    def typed(params, batch):
        assert jax.typeof(params["up"]).sharding.spec == P(None, "model")
        hidden = jnp.tanh(jnp.matmul(batch, params["up"], out_sharding=P("data", "model")))
        return jnp.mean(jnp.matmul(hidden, params["down"], out_sharding=P("data", None)) ** 2)

    probe = hgeo.make_probe(typed, coordinates, coordinate_axis="model", chunk_size=1)
    check(probe(on(mesh), batch), expected)


def test_coordinates_of_whole_params_use_another_axis():
    coordinates = hgeo.sample_coordinates(hgeo.find_layers(PARAMS), 16, jax.random.key(0))
    mesh, operations, entries = mesh_of((2, 4)), [], []
    for chunk_size, axis in ((4, None), (16, None), (4, "model")):
        probe = hgeo.make_probe(
            loss,
            coordinates,
            mesh=mesh,
            batch_spec="data",
            chunk_size=chunk_size,
            coordinate_axis=axis,
        )
        entries.append(probe(PARAMS, BATCH))
        operations.append(probe.lower(PARAMS, BATCH).compile().cost_analysis()["flops"])
    check(entries[2], entries[0])
    few, many, split = operations
    assert split - few < 0.3 * (many - few)


def test_a_whole_batch_is_told_of(coordinates, expected):
    with pytest.warns(UserWarning, match=r'all of it; to split it, give batch_spec="data"'):
        check(hgeo.make_probe(loss, coordinates)(on(mesh_of()), BATCH), expected)


def test_a_batch_whose_sharding_names_an_axis_is_left_alone(coordinates, expected):
    mesh = mesh_of((1, 8))
    batch = jax.device_put(BATCH, NamedSharding(mesh, P("data")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(hgeo.make_probe(loss, coordinates)(on(mesh), batch), expected)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_replicated_params_where_a_mesh_is_set(coordinates, expected, axis_type):
    monitor = hgeo.Monitor(loss, hgeo.find_layers(PARAMS), num=4)
    with jax.set_mesh(mesh_of(axis_type=axis_type)):
        with pytest.warns(UserWarning, match="all of it"):
            check(hgeo.make_probe(loss, coordinates)(PARAMS, BATCH), expected)
        with pytest.warns(UserWarning, match="all of it"):
            values = monitor(0, PARAMS, BATCH)
    for name, entries in expected.items():
        np.testing.assert_allclose(values[f"hgeo/r_med/{name}"], hgeo.r_med(entries), rtol=1e-4)


def test_a_whole_diagonal_of_a_loss_that_names_mesh_axes():
    def constrained(params, batch):
        hidden = jax.lax.with_sharding_constraint(batch @ params["up"], P("data", None))
        return jnp.mean((jnp.tanh(hidden) @ params["down"]) ** 2)

    measure = lambda loss, params, **more: hgeo.Monitor(
        loss, hgeo.find_layers(PARAMS), num=4, statistics=("full",), **more
    )(0, params, BATCH)
    found = measure(constrained, on(mesh_of()), batch_spec="data")
    expected = measure(loss, PARAMS, devices=jax.devices()[:1])
    name = "hgeo/full_r_med/down"
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)


def test_pieces_take_examples_of_every_share(coordinates, expected):
    probe = hgeo.make_probe(loss, coordinates, batch_spec="data", microbatch_size=4)
    check(probe(on(mesh_of()), BATCH), expected)


def two_meshes():
    devices = jax.devices()
    return mesh_of((2, 2), devices=devices[:4]), mesh_of((2, 2), devices=devices[4:])


def other_batch():
    first, second = two_meshes()
    return on(first), jax.device_put(BATCH, NamedSharding(second, P("data"))), {}


def other_params():
    first, second = two_meshes()
    return {"up": on(first)["up"], "down": on(second)["down"]}, BATCH, {}


REFUSED = {
    "batch elsewhere": (
        other_batch,
        r"params lie on the mesh data:2, model:2 \(devices 0 to 3\), but the batch's array '' lies "
        r"on the mesh data:2, model:2 \(devices 4 to 7\)",
    ),
    "two meshes": (other_params, r"params must lie on one mesh, but 'down' lies on .*'up' on"),
    "uneven batch": (
        lambda: (on(mesh_of()), BATCH[:6], {"batch_spec": "data"}),
        r"must be a multiple of the 4 shares of batch_spec=.*'data'.*, but the batch has 6",
    ),
    "unknown axis": (
        lambda: (on(mesh_of()), BATCH, {"batch_spec": "fsdp"}),
        "batch_spec must name axes of the mesh data:4, model:2 .*fsdp",
    ),
    "unknown coordinate axis": (
        lambda: (on(mesh_of()), BATCH, {"coordinate_axis": "x", "batch_spec": "data"}),
        r"coordinate_axis must be one of the mesh's axes \('data', 'model'\), not 'x'",
    ),
    "no mesh": (
        lambda: (PARAMS, BATCH, {"coordinate_axis": "model"}),
        "coordinate_axis='model' names axes of a mesh, but the params are sharded on no mesh",
    ),
    "devices too": (
        lambda: (on(mesh_of()), BATCH, {"devices": jax.devices()[:2]}),
        "can't be chosen for params on a mesh, whose devices are used",
    ),
    "another mesh": (
        lambda: (on(two_meshes()[0]), BATCH, {"mesh": two_meshes()[1]}),
        r"mesh=the mesh .*devices 4 to 7.* was given, but 'down' lies on",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mix_that_cannot_work_is_one_sentence(name, coordinates):
    given, message = REFUSED[name]
    params, batch, options = given()
    with pytest.raises(ValueError, match=message) as error:
        hgeo.make_probe(loss, coordinates, **options)(params, batch)
    assert "\n" not in str(error.value)


def test_the_same_of_a_monitor():
    layers, mesh = hgeo.find_layers(PARAMS), mesh_of()
    one = hgeo.Monitor(loss, layers, num=4, devices=jax.devices()[:1])(0, PARAMS, BATCH)
    monitor = hgeo.Monitor(loss, layers, num=4, batch=BATCH, mesh=mesh, batch_spec="data")
    found = monitor(0, on(mesh))
    assert found is not None
    assert one is not None
    assert found.keys() == one.keys()
    for name, value in one.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    with pytest.raises(ValueError, match="whose devices are used"):
        hgeo.Monitor(loss, layers, mesh=mesh, devices=jax.devices())
    with pytest.raises(ValueError, match="multiple of the 4 shares"):
        hgeo.Monitor(loss, layers, batch=BATCH[:6], mesh=mesh, batch_spec="data")


@pytest.mark.parametrize("num_coordinates", [1, 1000], ids=["by blocks", "with G"])
def test_squares_of_logits_over_all_devices(num_coordinates, monkeypatch):
    monkeypatch.setattr("hgeo.second_order.wide_product.BLOCK", 64)  # one token a block
    sizes, specs = ((4, 64), (32, 64), (32, 4)), (P(None, "model"), P("data"), P("data"))
    draw = np.random.default_rng(0).normal
    matrix, weight, moved = arrays = [np.float32(draw(size=size)) for size in sizes]
    square = lambda matrix, weight, moved: WideProduct(0, matrix).square(
        weight, num_coordinates, ("data",)
    )(moved)
    on_mesh = [NamedSharding(mesh_of(), spec) for spec in specs]
    given = [jax.device_put(*pair) for pair in zip(arrays, on_mesh, strict=True)]
    program = jax.jit(square).lower(*given).compile()
    expected = np.sum(weight * (moved @ matrix) ** 2)
    np.testing.assert_allclose(program(*given), expected, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(square)(*arrays), expected, rtol=1e-4)
    if num_coordinates == 1:  # a loop over the 4 tokens of a device's share, not over all 32
        assert re.findall(r'known_trip_count":{"n":"(\d+)"', str(program.as_text())) == ["4"]


def test_pinned_arrays_lie_over_the_named_axes_alone():
    given = jax.device_put(np.ones((8, 2), np.float32), NamedSharding(mesh_of(), P()))
    assert jax.jit(lambda x: pin(x, ("data",)))(given).sharding.spec[0] == "data"
    split = jax.device_put(given, NamedSharding(mesh_of(), P("model")))
    assert jax.jit(lambda x: pin(x, ()))(split).sharding.is_fully_replicated
    odd = jax.device_put(given[:6], NamedSharding(mesh_of(), P()))
    assert jax.jit(lambda x: pin(x, ("data",)))(odd).sharding.is_fully_replicated


def test_spread_leaves_what_does_not_divide():
    mesh = mesh_of()
    given = jax.device_put(np.ones((6, 2), np.float32), NamedSharding(mesh, P()))
    assert jax.jit(spread)(given).sharding.is_fully_replicated
    given = jax.device_put(np.ones((8, 2), np.float32), NamedSharding(mesh, P()))
    assert jax.jit(spread)(given).sharding.spec[0] == ("data", "model")
    one = jax.device_put(np.ones(4), NamedSharding(Mesh(jax.devices()[:1], "data"), P()))
    assert jax.jit(lambda x: jnp.float32(shares_of(x)))(one) == 1


def test_a_weight_that_is_placed_by_the_loss_keeps_its_signs():
    """An estimate draws signs by unit or by weight, as full diagonals are computed."""
    whole = NamedSharding(mesh_of(), P())
    plain = lambda params, batch: jnp.mean(jnp.tanh(batch @ params["w"]) ** 2)
    placing = lambda params, batch: plain(
        {"w": jax.lax.with_sharding_constraint(params["w"], whole)}, batch
    )
    params = jax.device_put({"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)}, whole)
    batch = jax.device_put(np.linspace(0, 1, 32, dtype=np.float32).reshape(8, 4), whole)
    layers, key = hgeo.find_layers(params), jax.random.key(3)
    expected, found = (
        jax.jit(functools.partial(hgeo.stochastic_diagonal, of, num_samples=2))(
            params, batch, layers, key
        )
        for of in (plain, placing)
    )
    np.testing.assert_allclose(found["w"].mean, expected["w"].mean, rtol=1e-5)
