"""Shared segments: the same values, from a program that grows linearly with the depth."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.second_order.adjoint_weighted import MAX_SHARED_POINTS_ON_CPU
from hgeo.second_order.evaluate import evaluate_quadratic_forms
from hgeo.second_order.flops import bodies
from tests.probes.dense import (
    diagonals,
    entries_of,
    joint_hessian,
    quick,
    slow,
    spans,
    wide_case,
)
from tests.probes.test_oracle import check, draw

QUICKER = ("attention", "tied_autoencoder")
OTHERS = ("gelu_mlp", "encoder_block", "decoder_block", "recurrence", "scanned_stack", "batch_norm")


def shared(*given, **options):
    """A probe whose layers share segments wherever possible, whatever the cost."""
    return evaluate_quadratic_forms(*given, **options, share_segments=True)[0]


def blocks(depth, width=6, seed=0):
    """Residual blocks of two layers behind an encoder that each reads again, and a tied head."""
    keys = iter(jax.random.split(jax.random.key(seed), 3 * depth + 4))
    new = lambda *shape: jax.random.normal(next(keys), shape, jnp.result_type(float)) / 2
    params = {"embedding": new(11, width), "memory": new(width, width)}
    for k in range(depth):
        params[f"up_{k:02}"], params[f"down_{k:02}"] = new(width, 2 * width), new(2 * width, width)
    batch = {"x": jnp.arange(8) % 11, "y": (3 * jnp.arange(8)) % 11}

    def loss(params, batch):
        x = params["embedding"][batch["x"]]
        memory = jnp.tanh(x @ params["memory"])
        for k in range(depth):
            inner = jnp.tanh((x + memory) @ params[f"up_{k:02}"])
            x = x + inner @ params[f"down_{k:02}"]
            x = x - jnp.mean(x, axis=-1, keepdims=True)
        logits = x @ params["embedding"].T
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["y"][:, None], axis=-1)
        return -jnp.mean(picked)

    return loss, params, batch, hgeo.find_layers(params, lambda path, leaf: True)


def conditions(jaxpr):
    """The number of conditions in a program, and of all its equations."""
    equations = len(jaxpr.eqns)
    found = sum(eqn.primitive.name == "cond" for eqn in jaxpr.eqns)
    for eqn in jaxpr.eqns:
        for body in bodies(eqn.params):
            more, length = conditions(body)
            found, equations = found + more, equations + length
    return found, equations


@functools.cache
def program(depth, num_points=MAX_SHARED_POINTS_ON_CPU, backend="cpu"):
    loss, params, batch, layers = blocks(depth)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # that small layers give all they have
        patch.setattr(jax, "default_backend", lambda: backend)
        chosen = hgeo.sample_coordinates(layers, num_points, jax.random.key(1))
        probe = lambda p, b: hgeo.sampled_diagonal(loss, p, b, chosen)
        return conditions(jax.make_jaxpr(probe)(params, batch).jaxpr)


@pytest.mark.slow
def test_a_deep_network_is_compiled_in_segments_and_a_flat_one_is_not():
    (few, short), (many, long), (_, longer) = (program(depth) for depth in (2, 9, 18))
    assert few == 0
    assert many > 2
    # Twice the depth, twice the program; without shared segments four times.
    assert longer < 2.2 * long
    assert long < 4.5 * short


@pytest.mark.slow
def test_many_points_on_a_cpu_keep_loops_of_their_own():
    assert program(9, MAX_SHARED_POINTS_ON_CPU)[0] > 0
    assert program(9, MAX_SHARED_POINTS_ON_CPU + 1)[0] == 0
    assert program(9, MAX_SHARED_POINTS_ON_CPU + 1, "gpu")[0] > 0


@pytest.mark.parametrize(
    ("seed", "chunk"),
    [
        (1, 3),
        pytest.param(0, 1, marks=pytest.mark.slow),
        pytest.param(2, "auto", marks=pytest.mark.slow),
    ],
)
def test_a_deep_network_agrees_with_the_dense_hessian(seed, chunk):
    with jax.enable_x64(True):
        loss, params, batch, layers = blocks(9, width=3, seed=seed)
        # Not a multiple of a chunk, and more than the weights of the smallest layer.
        chosen = draw(layers, seed)
        probe = quick(lambda p, b: hgeo.sampled_diagonal(loss, p, b, chosen, chunk_size=chunk))
        traced = probe.trace(params, batch)
        assert conditions(traced.jaxpr.jaxpr)[0] > 0
        found = traced.lower().compile()(params, batch)
        check(found, truth(loss, params, batch, layers), chosen, 1e-10, 1e-9, np.float64)


def truth(loss, params, batch, layers):
    dense = quick(lambda p, b: jnp.diagonal(joint_hessian(loss, p, b, layers)))(params, batch)
    return {name: np.asarray(dense[span]) for name, span in spans(layers).items()}


@pytest.mark.parametrize("family", slow((*QUICKER, *OTHERS), OTHERS))
def test_every_family_agrees_with_the_dense_hessian(family):
    with jax.enable_x64(True):
        options = {"mode": "adjoint_weighted", "chunk_size": 3}
        probe = quick(functools.partial(shared, wide_case(family).loss, **options))
        for seed in (0, 1):
            case = wide_case(family, seed)
            chosen = draw(case.layers, seed)
            found = probe(case.params, case.batch, chosen)
            check(found, diagonals(family, seed), chosen, 1e-10, 1e-9, np.float64)


def test_directions_and_layers_of_several_leaves_share_too():
    with jax.enable_x64(True):
        loss, params, batch, _ = blocks(4)
        paths = {f"block_{k}": [f"up_{k:02}", f"down_{k:02}"] for k in range(4)}
        layers = hgeo.find_layers(params, paths)
        directions = {
            name: hgeo.Directions(layer, jax.random.normal(jax.random.key(k), (5, layer.size)))
            for k, (name, layer) in enumerate(layers.items())
        }
        found = quick(
            lambda p, b: shared(loss, p, b, directions, mode="adjoint_weighted", chunk_size=2)
        )(params, batch)
        dense = quick(lambda p, b: joint_hessian(loss, p, b, layers))(params, batch)
        for name, span in spans(layers).items():
            along = directions[name].vectors
            expected = jnp.einsum("ki,ij,kj->k", along, dense[span, span], along)
            np.testing.assert_allclose(found[name], expected, rtol=1e-9)


def collective(params, batch, axis=None):
    """A loss that takes means over the whole batch, on one device or over an axis of devices."""
    x = params["embedding"][batch["x"]]
    for k in range(3):
        x = x + jnp.tanh(x @ params[f"up_{k:02}"]) @ params[f"down_{k:02}"]
        mean = jnp.mean(x, axis=0, keepdims=True)
        x = x - (mean if axis is None else jax.lax.pmean(mean, axis))
    return jnp.mean((x @ params["memory"]) ** 4)


def check_over_devices(**options):
    """Four devices against one, for a loss with collectives."""
    with jax.enable_x64(True):
        _, params, batch, layers = blocks(3)
        chosen = hgeo.sample_coordinates(layers, 7, jax.random.key(2))
        split = lambda p, b: collective(p, b, "data")
        found = hgeo.Probe(split, chosen, jax.devices()[:4], options)
        expected = quick(lambda p, b: entries_of(collective, p, b, chosen))(params, batch)
        for name, entries in found(params, batch).items():
            np.testing.assert_allclose(entries, expected[name], rtol=1e-9, atol=1e-13)


def test_devices_share_segments_whose_loss_has_collectives():
    check_over_devices(chunk_size=3, share_segments=True)


@pytest.mark.slow
def test_half_precision_is_summed_in_float32_and_the_layers_keep_their_dtypes():
    loss, params, batch, _ = blocks(3)
    params["up_02"] = params["up_02"].astype(jnp.bfloat16)

    def mixed(params, batch):
        return loss(params | {"up_02": params["up_02"].astype(jnp.float32)}, batch)

    layers = hgeo.find_layers(params, lambda path, leaf: True)
    chosen = hgeo.sample_coordinates(layers, 6, jax.random.key(3))
    found = quick(lambda p, b: shared(mixed, p, b, chosen, mode="adjoint_weighted", chunk_size=4))(
        params, batch
    )
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    widened = hgeo.find_layers(wide, list(layers))
    same = {name: hgeo.Coordinates(widened[name], own.indices) for name, own in chosen.items()}
    expected = quick(lambda p, b: entries_of(loss, p, b, same))(wide, batch)
    for name in chosen:
        assert found[name].dtype == params[name].dtype
        tolerance = 1e-2 if name == "up_02" else 1e-4
        scale = float(jnp.max(jnp.abs(expected[name])))
        difference = found[name].astype(jnp.float32) - expected[name]
        assert float(jnp.max(jnp.abs(difference))) < tolerance * scale, name


@pytest.mark.slow
def test_a_memory_budget_below_one_coordinate_names_the_layer():
    loss, params, batch, layers = blocks(3)
    chosen = hgeo.sample_coordinates(layers, 6, jax.random.key(3))
    with pytest.raises(ValueError, match=r"layer '\w+' takes about \d+ bytes.*budget is 100"):
        shared(loss, params, batch, chosen, memory_budget=100)
    enough = quick(lambda p, b: shared(loss, p, b, chosen, memory_budget=10**6))(params, batch)
    expected = quick(lambda p, b: entries_of(loss, p, b, chosen))(params, batch)
    for name, entries in enough.items():
        np.testing.assert_allclose(entries, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_sharing_is_always_never_or_where_it_pays():
    loss, params, batch, layers = blocks(9)
    chosen = draw(layers, 0)

    def count(share_segments):
        probe = lambda p, b: evaluate_quadratic_forms(
            loss, p, b, chosen, share_segments=share_segments
        )[0]
        return conditions(jax.make_jaxpr(probe)(params, batch).jaxpr)[0]

    always, never, where_it_pays = map(count, (True, False, "auto"))
    assert always > where_it_pays > never == 0
    with pytest.raises(ValueError, match="share_segments must be 'auto', True or False, not 'no'"):
        count("no")
