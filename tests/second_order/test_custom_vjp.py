"""Functions with a reverse rule only: kernels and losses, alone and within other functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import hgeo
from hgeo.devices import make_mesh
from tests.probes.dense import error, quick

PARAMS = {"w": jax.random.normal(jax.random.key(0), (4, 3))}
BATCH = jax.random.normal(jax.random.key(1), (6, 4))
LAYERS = hgeo.find_layers(PARAMS)
COORDINATES = {"w": hgeo.Coordinates(LAYERS["w"], jnp.arange(12))}


@jax.custom_vjp
def squares(z):
    return jnp.sum(jnp.tanh(z) ** 2)


# The forward rule calls the function itself, as JAX's documentation writes it.
squares.defvjp(
    lambda z: (squares(z), z),
    lambda z, g: (g * 2 * jnp.tanh(z) * (1 - jnp.tanh(z) ** 2),),
)


def squares_loss(params, batch):
    return squares(batch @ params["w"])


def plain_loss(params, batch):
    return jnp.sum(jnp.tanh(batch @ params["w"]) ** 2)


def truth():
    t = jnp.tanh(BATCH @ PARAMS["w"])
    return jnp.einsum("ni,nj->ij", BATCH**2, 2 * (1 - t**2) * (1 - 3 * t**2)).ravel()


def test_every_probe_goes_by_two_reverse_derivatives_where_there_is_no_forward_one():
    @quick
    def probes(params, batch):
        key = jax.random.key(0)
        return (
            hgeo.sampled_diagonal(squares_loss, params, batch, COORDINATES, chunk_size=5)["w"],
            hgeo.full_diagonal(squares_loss, params, batch, LAYERS)["w"],
            hgeo.full_diagonal(squares_loss, params, batch, LAYERS, method="coordinates")["w"],
            hgeo.stochastic_diagonal(squares_loss, params, batch, LAYERS, key, 12, method="xdiag")[
                "w"
            ].mean,
            [
                (
                    hgeo.row_dominance(loss, params, batch, COORDINATES, microbatch_size=size)["w"],
                    hgeo.spectrum(loss, params, batch, LAYERS["w"], key, num_matvecs=12).largest,
                    hgeo.stochastic_diagonal(loss, params, batch, LAYERS, key, 3)["w"].mean,
                )
                for loss, size in ((squares_loss, None), (plain_loss, 6))
            ],
        )

    *diagonals, (found, expected) = probes(PARAMS, BATCH)
    for diagonal in diagonals:
        assert error(diagonal, truth()) < 1e-5
    for own, other in zip(found, expected, strict=True):
        if own is not found[2]:  # its signs are those of weights here, of units there
            assert error(own, other) < 1e-4
    choice = hgeo.choose_mode(squares_loss, PARAMS, BATCH, COORDINATES)
    assert choice.mode == "reverse_over_reverse"
    assert "custom_vjp function 'squares'" in choice.reason
    assert "gradient of <gradient, e_i>" in choice.reason


def test_a_monitor_and_a_compiled_probe_state_the_mode():
    probe = hgeo.make_probe(squares_loss, COORDINATES, devices=jax.devices()[:1])
    assert error(probe(PARAMS, BATCH)["w"], truth()) < 1e-5
    assert probe.mode == "reverse_over_reverse"
    monitor = hgeo.Monitor(squares_loss, LAYERS, num=12, devices=jax.devices()[:1])
    values = monitor(0, PARAMS, BATCH)
    assert values["hgeo/r_med/w"] == pytest.approx(float(hgeo.r_med(truth())), rel=1e-4)
    assert "reverse_over_reverse" in monitor.mode


def _attention(q, k, v):
    return jax.nn.softmax(q @ k.T) @ v


def _attention_forward(q, k, v):
    return attention(q, k, v), (q, k, v)


def _attention_backward(kept, g):
    q, k, v = kept
    weights = jax.nn.softmax(q @ k.T)
    of_weights = g @ v.T
    of_scores = weights * (of_weights - jnp.sum(weights * of_weights, axis=-1, keepdims=True))
    return of_scores @ k, of_scores.T @ q, weights.T @ g


attention = jax.custom_vjp(_attention)
attention.defvjp(_attention_forward, _attention_backward)


def _with_penalty(logits, labels):
    logsumexp = jax.nn.logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return jnp.mean(logsumexp - picked + 1e-2 * logsumexp**2)


def _with_penalty_backward(kept, g):
    logits, labels = kept
    logsumexp = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    each = jax.nn.softmax(logits) * (1 + 2e-2 * logsumexp)
    return g * (each - jax.nn.one_hot(labels, logits.shape[-1])) / len(logits), None


# Labels are integers, which have no derivative.
with_penalty = jax.custom_vjp(_with_penalty)
with_penalty.defvjp(lambda x, y: (with_penalty(x, y), (x, y)), _with_penalty_backward)


def _scaled(scale, x):
    return jnp.tanh(scale * x)


scaled = jax.custom_vjp(_scaled, nondiff_argnums=(0,))
scaled.defvjp(
    lambda scale, x: (scaled(scale, x), x),
    lambda scale, x, g: (g * scale * (1 - jnp.tanh(scale * x) ** 2),),
)


def repeated(function):
    layer = jax.checkpoint(lambda x, _: (function(1.5, x), None))
    return lambda x: jax.lax.scan(layer, x, None, length=2)[0]


def _on_devices(function):
    both = lambda x: jax.lax.psum(jnp.sum(function(2.0, x) ** 2), "data")
    mesh, split = make_mesh(jax.devices()[:2]), PartitionSpec("data")
    return jax.shard_map(both, mesh=mesh, in_specs=split, out_specs=PartitionSpec())


FURTHER = {
    "attention": lambda own: (
        lambda z: jnp.sum(jnp.sin((attention if own else _attention)(z, z[::-1], jnp.cos(z))) ** 2)
    ),
    "with_penalty": lambda own: (
        lambda z: (with_penalty if own else _with_penalty)(z, jnp.arange(6) % 3)
    ),
    "scaled": lambda own: lambda z: jnp.mean((scaled if own else _scaled)(2.0, z) ** 3),
    "in_scan_with_remat": lambda own: (
        lambda z: jnp.mean(repeated(scaled if own else _scaled)(z) ** 2)
    ),
    "under_vmap": lambda own: (
        lambda z: jnp.mean(jax.vmap(lambda row: (scaled if own else _scaled)(0.5, row) ** 2)(z))
    ),
    "in_shard_map": lambda own: _on_devices(scaled if own else _scaled),
}


@pytest.mark.parametrize("name", FURTHER)
def test_kernels_that_call_themselves_have_the_curvature_of_their_plain_form(name):
    of = lambda own: lambda params, batch: FURTHER[name](own)(batch @ params["w"])
    choice = hgeo.choose_mode(of(True), PARAMS, BATCH, COORDINATES)
    assert choice.mode == "reverse_over_reverse"
    probe = functools.partial(hgeo.sampled_diagonal, chunk_size=4)
    found, expected = quick(
        lambda p, b: [
            probe(of(True), p, b, COORDINATES)["w"],
            probe(of(False), p, b, COORDINATES, mode="forward_over_reverse")["w"],
        ]
    )(PARAMS, BATCH)
    assert error(found, expected) < 1e-5


def test_such_a_kernel_within_a_probe_over_devices():
    loss = lambda params, batch: jnp.mean(scaled(2.0, batch @ params["w"]) ** 2)
    plain = lambda params, batch: jnp.mean(_scaled(2.0, batch @ params["w"]) ** 2)
    found = hgeo.make_probe(loss, COORDINATES, devices=jax.devices()[:2])(PARAMS, BATCH)["w"]
    expected = hgeo.sampled_diagonal(plain, PARAMS, BATCH, COORDINATES, chunk_size=12)["w"]
    assert error(found, expected) < 1e-5


def test_gauss_newton_and_fisher_of_such_a_model_go_by_the_transpose_of_its_pullback():
    head = lambda outputs, batch: jnp.mean(jnp.sum(jnp.sin(outputs) ** 2, axis=-1))
    model = lambda f: lambda params, batch: f(1.5, batch @ params["w"])
    found, expected = quick(
        lambda p, b: [
            [
                hgeo.sampled_diagonal(curvature(model(f), head), p, b, COORDINATES)["w"]
                for curvature in (hgeo.gauss_newton, hgeo.fisher)
            ]
            for f in (scaled, _scaled)
        ]
    )(PARAMS, BATCH)
    for own, other in zip(found, expected, strict=True):
        assert error(own, other) < 1e-5


def test_a_rule_without_a_transpose_has_no_gauss_newton_matrix():
    @jax.custom_vjp
    def once(x):
        return jnp.sin(x)

    def backward(x, g):
        return (jax.pure_callback(lambda x, g: g * np.cos(x), x, x, g),)

    once.defvjp(lambda x: (jnp.sin(x), x), backward)
    loss = hgeo.gauss_newton(
        lambda params, batch: once(batch @ params["w"]), lambda z, batch: jnp.mean(z**2)
    )
    with pytest.raises(ValueError, match=r"custom_vjp function.*transpose"):
        hgeo.sampled_diagonal(loss, PARAMS, BATCH, COORDINATES)
