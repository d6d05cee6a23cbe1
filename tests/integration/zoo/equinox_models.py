"""Equinox: modules that are pytrees; their functions and sizes are closed over."""

import equinox as eqx
import jax
import jax.numpy as jnp

import hgeo
from tests.integration.zoo.inputs import cross_entropy, draws, jiggled
from tests.probes.families import Case


def _case(model, apply, batch, key):
    params, static = eqx.partition(model, eqx.is_inexact_array)
    params = jiggled(params, key)
    loss = lambda params, batch: apply(eqx.combine(params, static), batch)
    return Case(loss, params, batch, hgeo.find_layers(params))


class _Block(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norms: list[eqx.nn.LayerNorm]
    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.attention = eqx.nn.MultiheadAttention(2, 4, key=key)
        self.norms = [eqx.nn.LayerNorm(4), eqx.nn.LayerNorm(4)]
        self.mlp = eqx.nn.MLP(4, 4, 6, 1, jax.nn.gelu, key=key)

    def __call__(self, x):
        normed = jax.vmap(self.norms[0])(x)
        x = x + self.attention(normed, normed, normed, mask=jnp.tril(jnp.ones((3, 3), bool)))
        return x + jax.vmap(self.mlp)(jax.vmap(self.norms[1])(x))


def attention(key):
    """Two pre-LN blocks, vmapped over the examples."""
    draw = draws(key)
    model = [_Block(k) for k in jax.random.split(key)]
    batch = {"x": draw(2, 3, 4), "y": jnp.arange(6).reshape(2, 3) % 4}

    def apply(blocks, batch):
        logits = jax.vmap(lambda x: blocks[1](blocks[0](x)))(batch["x"])
        return cross_entropy(logits, batch["y"])

    return _case(model, apply, batch, key)


def gru(key):
    """Two GRU cells in one scan over time."""
    draw = draws(key)
    first, second, last = jax.random.split(key, 3)
    model = (
        eqx.nn.GRUCell(2, 4, key=first),
        eqx.nn.GRUCell(4, 3, key=second),
        eqx.nn.Linear(3, 1, key=last),
    )
    batch = {"x": draw(3, 5, 2), "y": draw(3, 1)}

    def apply(model, batch):
        one, two, out = model

        def step(state, x):
            lower = one(x, state[0])
            return (lower, two(lower, state[1])), None

        def run(x):
            start = jnp.zeros(4, x.dtype), jnp.zeros(3, x.dtype)
            return out(jax.lax.scan(step, start, x)[0][1])

        return jnp.mean((jax.vmap(run)(batch["x"]) - batch["y"]) ** 2)

    return _case(model, apply, batch, key)


def batch_norm(key):
    """Two convolutions with batch norm in training mode, whose state is passed along."""
    draw = draws(key)
    first, second, last = jax.random.split(key, 3)
    model, state = eqx.nn.make_with_state(eqx.nn.Sequential)(
        [
            eqx.nn.Conv2d(2, 3, 3, padding=1, key=first),
            eqx.nn.BatchNorm(3, "examples", mode="batch"),
            eqx.nn.Lambda(jax.nn.gelu),
            eqx.nn.Conv2d(3, 4, 2, key=second),
            eqx.nn.BatchNorm(4, "examples", mode="ema"),
            eqx.nn.Lambda(lambda x: jnp.mean(jax.nn.silu(x), axis=(1, 2))),
            eqx.nn.Linear(4, 3, key=last),
        ]
    )
    batch = {"x": draw(4, 2, 4, 4), "y": jnp.arange(4) % 3}

    def apply(model, batch):
        run = jax.vmap(model, axis_name="examples", in_axes=(0, None), out_axes=(0, None))
        return cross_entropy(run(batch["x"], state)[0], batch["y"])

    return _case(model, apply, batch, key)


MODELS = {model.__name__: model for model in (attention, gru, batch_norm)}
