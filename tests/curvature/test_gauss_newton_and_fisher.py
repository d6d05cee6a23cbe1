"""Gauss-Newton and Fisher matrices against dense matrices from Jacobians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from tests.probes.dense import dense_hessian, error, joint_hessian, quick, spans

MODES = ("adjoint_weighted", "forward_over_reverse", "forward_over_forward")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def model(params, batch):
    hidden = jax.nn.gelu(
        batch["x"] @ params["w1"] + jnp.broadcast_to(params["b"], (*batch["x"].shape[:-1], 5))
    )
    return jnp.tanh(hidden @ params["w2"]) @ params["w3"]


def cross_entropy(outputs, batch):
    log_p = jax.nn.log_softmax(outputs)
    return -jnp.mean(jnp.take_along_axis(log_p, batch["y"][..., None], axis=-1))


def masked(outputs, batch):
    log_p = jax.nn.log_softmax(outputs)
    losses = -jnp.take_along_axis(log_p, batch["y"][..., None], axis=-1)[..., 0]
    return hgeo.Weighted(jnp.sum(losses * batch["mask"]), jnp.sum(batch["mask"]))


def cubed(outputs, batch):
    return jnp.mean(jnp.sum((outputs - batch["t"]) ** 3, axis=-1))


HEADS = {"cross entropy": cross_entropy, "masked": masked, "cubed": cubed}


def case(seed, *leading):
    draw = lambda k, *shape: jax.random.normal(jax.random.key(10 * seed + k), shape, jnp.float64)
    params = {"w1": draw(0, 3, 5), "b": draw(1, 5), "w2": draw(2, 5, 4), "w3": draw(3, 4, 3)}
    labels = jax.random.randint(jax.random.key(seed), leading, 0, 3)
    mask = (jnp.arange(np.prod(leading)).reshape(leading) % 3 > 0).astype(jnp.float64)
    batch = {"x": draw(4, *leading, 3), "t": draw(5, *leading, 3), "y": labels, "mask": mask}
    return params, batch


def jacobian(params, batch, layers):
    """Of all layers' weights, one layer after the other."""
    by_leaf = jax.jacobian(lambda params: model(params, batch).ravel())(params)
    return jnp.concatenate(
        [by_leaf[name].reshape(-1, layer.size) for name, layer in layers.items()], axis=1
    )


def all_of(layers):
    whole = lambda layer: hgeo.Coordinates(layer, jnp.arange(layer.size))
    return {name: whole(layer) for name, layer in layers.items()}


def mean_of(head, batch):
    def mean(outputs):
        value = head(outputs, batch)
        return value.total / value.weight if isinstance(value, hgeo.Weighted) else value

    return mean


@pytest.mark.parametrize("head", HEADS)
def test_gauss_newton_equals_jacobians_around_the_heads_hessian(head):
    loss, layers = hgeo.gauss_newton(model, HEADS[head]), hgeo.find_layers(case(0, 6)[0])

    @quick
    def every(params, batch):
        outputs = model(params, batch)
        curved = jax.hessian(mean_of(HEADS[head], batch))(outputs).reshape(outputs.size, -1)
        columns = jacobian(params, batch, layers)
        probe = functools.partial(hgeo.sampled_diagonal, loss, params, batch, all_of(layers))
        modes = MODES if head == "masked" else MODES[:1]
        return (
            (loss(params, batch), HEADS[head](outputs, batch)),
            (joint_hessian(loss, params, batch, layers), columns.T @ curved @ columns),
            {mode: probe(mode=mode) for mode in modes},
        )

    for seed in (0, 1):
        (value, plain), (dense, expected), entries = every(*case(seed, 6))
        assert jax.tree.all(jax.tree.map(jnp.allclose, value, plain))
        for name, span in spans(layers).items():
            own = expected[span, span]
            assert error(dense[span, span], own) < 1e-12
            for mode, found in entries.items():
                assert error(found[name], jnp.diagonal(own)) < 1e-12, mode


@pytest.mark.parametrize(("head", "axes"), [("cross entropy", 1), ("masked", 2), ("cubed", 2)])
def test_empirical_fisher_is_the_mean_square_of_the_examples_gradients(head, axes):
    params, batch = case(0, 4, 2) if axes == 2 else case(0, 6)
    number = 8 if axes == 2 else 6
    weight = jnp.sum(batch["mask"]) if head == "masked" else number
    loss = hgeo.fisher(model, HEADS[head], example_axes=axes)
    layers = hgeo.find_layers(params)

    def of_example(params, one):
        def total(params):
            value = HEADS[head](model(params, one), one)
            return value.total if isinstance(value, hgeo.Weighted) else value

        gradient = jax.grad(total)(params)
        return jnp.concatenate([layer.ravel(gradient) for layer in layers.values()])

    def both(params, batch):
        each = jax.tree.map(lambda x: x.reshape(number, 1, *x.shape[axes:]), batch)
        slopes = jax.vmap(of_example, in_axes=(None, 0))(params, each)
        return joint_hessian(loss, params, batch, layers), slopes.T @ slopes / weight

    found, expected = quick(both)(params, batch)
    for span in spans(layers).values():
        assert error(found[span, span], expected[span, span]) < 1e-12


@pytest.mark.parametrize("kind", ["complex", "beside an integer"])
def test_fisher_of_outputs_that_are_not_all_real(kind):
    params, x = {"w": jnp.arange(6.0).reshape(3, 2) / 5}, jnp.arange(12.0).reshape(4, 3) / 7
    model, head = {
        "complex": (
            lambda p, x: jnp.exp(1j * (x @ p["w"]).astype(complex)),
            lambda z: jnp.abs(z - 1) ** 4,
        ),
        "beside an integer": (
            lambda p, x: {"z": x @ p["w"], "n": jnp.arange(len(x))},
            lambda out: out["z"] ** 2 * out["n"][:, None].astype(float),
        ),
    }[kind]
    of_example = lambda p, one: jnp.sum(head(model(p, x))[one])
    slopes = [jax.grad(of_example)(params, one)["w"].ravel() for one in range(4)]
    loss = hgeo.fisher(model, lambda out, batch: jnp.sum(head(out)) / 4)
    found = dense_hessian(loss, params, x, hgeo.find_layers(params)["w"])
    assert error(found, sum(jnp.outer(g, g) for g in slopes) / 4) < 1e-12


def test_sampled_fisher_of_cross_entropy_tends_to_gauss_newton():
    params, batch = case(0, 6)
    draw = lambda key, outputs, batch: batch | {"y": jax.random.categorical(key, outputs)}
    num = 4000
    loss = hgeo.fisher(model, cross_entropy, sample=draw, key=jax.random.key(1), num_samples=num)
    layer = hgeo.find_layers(params)["w3"]
    found = dense_hessian(loss, params, batch, layer)
    expected = dense_hessian(hgeo.gauss_newton(model, cross_entropy), params, batch, layer)
    assert error(found, expected) < 6 / num**0.5
    assert error(found, expected) > 1e-6  # it is a sample


def test_sampled_targets_are_those_that_were_drawn():
    params, batch = case(0, 6)
    other = batch | {"y": (batch["y"] + 1) % 3}
    drawn = hgeo.fisher(
        model, cross_entropy, sample=lambda key, z, b: other, key=jax.random.key(0), num_samples=3
    )
    layer = hgeo.find_layers(params)["w2"]
    expected = dense_hessian(hgeo.fisher(model, cross_entropy), params, other, layer)
    assert error(dense_hessian(drawn, params, batch, layer), expected) < 1e-12


def test_microbatches_add_up():
    params, batch = case(0, 6)
    layers = hgeo.find_layers(params, ["w1", "w3"])
    coordinates = all_of(layers)
    for loss in (hgeo.gauss_newton(model, masked), hgeo.fisher(model, masked)):
        probe = functools.partial(hgeo.sampled_diagonal, loss, coordinates=coordinates)
        both = lambda *given, probe=probe: (probe(*given), probe(*given, microbatch_size=4))
        whole, pieces = quick(both)(params, batch)
        for name in layers:
            assert error(pieces[name], whole[name]) < 1e-12


def test_bad_arguments():
    params, batch = case(0, 6)
    with pytest.raises(ValueError, match="sample and key must be given together"):
        hgeo.fisher(model, cross_entropy, key=jax.random.key(0))
    with pytest.raises(ValueError, match="num_samples must be at least 1, not 0"):
        hgeo.fisher(model, cross_entropy, num_samples=0)
    with pytest.raises(ValueError, match="example_axes must be at least 1, not 0"):
        hgeo.fisher(model, cross_entropy, example_axes=0)
    with pytest.raises(ValueError, match=r"example_axes .* not 3; the outputs have shapes"):
        hgeo.fisher(model, cross_entropy, example_axes=3)(params, batch)
