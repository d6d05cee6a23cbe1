"""A monitor in the loops of Flax linen, Flax NNX, Equinox, a plain pytree, and a TrainState."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import hgeo
from tests.measure.truth import assert_r_med, dense_r_med

KEY = jax.random.key(7)
NUM = 6
ONE = jax.devices()[:1]


@pytest.fixture(autouse=True)
def as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 5)).astype(np.float32)
    return x, np.sin(x[:, :1] * 2 + x[:, 1:2]).astype(np.float32)


def mean_square(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def test_flax_linen(batch):
    model = nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(1)])
    loss = lambda params, batch: mean_square(model.apply(params, batch[0]), batch[1])
    params = model.init(jax.random.key(0), batch[0])
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    layers = hgeo.find_layers(params)
    monitor = hgeo.Monitor(loss, layers, every=4, num=NUM, key=KEY, devices=ONE)
    told = {}
    for step in range(9):
        values = monitor(step, params, batch)
        if values is not None:
            told[step] = (values, params)
        params, state = update(params, state, batch)
    assert list(told) == [0, 4, 8]
    coordinates = hgeo.sample_coordinates(layers, NUM, KEY)
    for step in (0, 8):
        assert_r_med(told[step][0], dense_r_med(loss, told[step][1], batch, coordinates))
    assert told[0][0] != told[8][0]
    assert told[8][0]["hgeo/loss"] < told[0][0]["hgeo/loss"]


def test_flax_nnx(batch):
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(5, 6, rngs=rngs)
            self.last = nnx.Linear(6, 1, rngs=rngs)

        def __call__(self, x):
            return self.last(jnp.tanh(self.first(x)))

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, 0.9), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, batch):
        grads = nnx.grad(lambda model: mean_square(model(batch[0]), batch[1]))(model)
        optimizer.update(model, grads)

    graph, params = nnx.split(model, nnx.Param)
    loss = lambda params, batch: mean_square(nnx.merge(graph, params)(batch[0]), batch[1])
    layers = hgeo.find_layers(params)
    assert list(layers) == ["first/kernel", "last/kernel"]
    monitor = hgeo.Monitor(loss, layers, every=2, num=NUM, key=KEY, batch=batch, devices=ONE)
    for step in range(3):
        values = monitor(step, nnx.state(model, nnx.Param))
        if step < 2:
            update(model, optimizer, batch)
    coordinates = hgeo.sample_coordinates(layers, NUM, KEY)
    params = nnx.state(model, nnx.Param)
    truth = dense_r_med(loss, params, batch, coordinates)
    assert_r_med(values, truth)

    # The state of NNX's optimizer has the same leaves as Optax's in other containers.
    aligned = hgeo.Monitor(
        loss,
        layers,
        num=NUM,
        key=KEY,
        batch=batch,
        statistics=("alignment",),
        devices=ONE,
        optimizer=optax.sgd(0.1, 0.9),
    )
    momentum = jax.tree.unflatten(
        jax.tree.structure(optax.sgd(0.1, 0.9).init(params)),
        jax.tree.leaves(optimizer.opt_state),
    )
    states = (optimizer.opt_state, momentum)
    found, expected = (aligned(0, params, optimizer_state=state) for state in states)
    assert found == expected
    assert np.isfinite(found["hgeo/rho_adaptive/first/kernel"])


def test_equinox(batch):
    model = eqx.nn.MLP(5, 1, 6, 1, activation=jnp.tanh, key=jax.random.key(0))
    optimizer = optax.adam(1e-2)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    state = optimizer.init(params)

    def loss(params, batch):
        return mean_square(jax.vmap(eqx.combine(params, static))(batch[0]), batch[1])

    @eqx.filter_jit
    def update(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return eqx.apply_updates(params, updates), state

    layers = hgeo.find_layers(params)
    monitor = hgeo.Monitor(loss, layers, every=2, num=NUM, key=KEY, devices=ONE)
    for step in range(3):
        values = monitor(step, params, batch)
        if step < 2:
            params, state = update(params, state, batch)
    coordinates = hgeo.sample_coordinates(layers, NUM, KEY)
    assert_r_med(values, dense_r_med(loss, params, batch, coordinates))


def test_a_plain_pytree_in_float64(batch):
    """A list of arrays, all of a layer's entries, at the precision of the dense Hessian."""
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        params = [jnp.asarray(rng.normal(size=shape)) for shape in ((5, 4), (4, 1))]
        loss = lambda params, batch: hgeo.Weighted(
            jnp.sum((jnp.tanh(batch[0] @ params[0]) @ params[1] - batch[1]) ** 2), len(batch[0])
        )
        batch = jax.tree.map(lambda x: jnp.asarray(x, "float64"), batch)
        with pytest.warns(UserWarning, match=r"so all of them are taken: 0 \(20\)"):
            monitor = hgeo.Monitor(loss, hgeo.find_layers(params), devices=ONE)
        values = monitor(100, params, batch)
        with pytest.warns(UserWarning, match="all of them are taken"):
            coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 200, KEY)
    assert_r_med(values, dense_r_med(loss, params, batch, coordinates), rtol=1e-9)


@pytest.mark.slow
def test_a_train_state_on_eight_devices(batch):
    """The loop's placement: the state on its mesh, the batch split over it."""
    model = nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(1)])
    loss = lambda params, batch: mean_square(model.apply({"params": params}, batch[0]), batch[1])
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    params = model.init(jax.random.key(0), batch[0])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-2))
    state = jax.device_put(state, whole)
    placed = jax.device_put(batch, split)

    @jax.jit
    def update(state, batch):
        return state.apply_gradients(grads=jax.grad(loss)(state.params, batch))

    layers = hgeo.find_layers(params)
    settings = {
        "num": NUM,
        "key": KEY,
        "optimizer": state.tx,
        "statistics": ("r_med", "alignment", "preconditioned"),
        "preconditioner": {"b2": 0.999},
    }
    monitor = hgeo.Monitor(loss, layers, every=2, **settings)
    for step in range(3):
        values = monitor(step, state.params, placed, optimizer_state=state.opt_state)
        if step < 2:
            state = update(state, placed)
    coordinates = hgeo.sample_coordinates(layers, NUM, KEY)
    assert_r_med(values, dense_r_med(loss, state.params, batch, coordinates))

    # By hand: the next update, and P after it.
    grads = jax.grad(loss)(state.params, batch)
    updates, after = state.tx.update(grads, state.opt_state, state.params)
    divisor = hgeo.preconditioner(after, b2=0.999)
    diagonal = jax.jit(lambda p: hgeo.sampled_diagonal(loss, p, batch, coordinates))(state.params)
    for name, own in coordinates.items():
        g, u, p = (own.layer.ravel(tree)[own.indices] for tree in (grads, updates, divisor))
        found = hgeo.alignment(diagonal[name], g, u)
        at = lambda statistic, name=name: values[f"hgeo/{statistic}/{name}"]
        np.testing.assert_allclose(at("rho_gradient"), found.rho_gradient, atol=1e-6)
        np.testing.assert_allclose(at("rho_adaptive"), found.rho_adaptive, atol=1e-6)
        seen = hgeo.r_med(diagonal[name] / p)
        np.testing.assert_allclose(at("preconditioned_r_med"), seen, rtol=1e-3)

    # The loop's gradient and updates, which differ here from those of the batch.
    rng = np.random.default_rng(3)
    noise = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), state.params)
    given = hgeo.Monitor(loss, layers, num=NUM, key=KEY, statistics=("alignment",), devices=ONE)
    values = given(0, state.params, placed, gradient=noise, updates=grads)
    for name, own in coordinates.items():
        p, g = (own.layer.ravel(tree)[own.indices] for tree in (noise, grads))
        found = hgeo.alignment(diagonal[name], p, g)
        for statistic in ("rho_gradient", "rho_adaptive"):
            value = values[f"hgeo/{statistic}/{name}"]
            np.testing.assert_allclose(value, getattr(found, statistic), atol=1e-6)
    with pytest.raises(ValueError, match="multiple of the 8 devices, but is 31"):
        monitor(4, state.params, (batch[0][:31], batch[1][:31]), optimizer_state=state.opt_state)
