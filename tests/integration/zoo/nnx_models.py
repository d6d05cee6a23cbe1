"""Flax NNX: modules with state, split into params and the rest."""

import jax.numpy as jnp
from flax import nnx

import hgeo
from tests.integration.zoo.inputs import as_float, cross_entropy, draws, jiggled
from tests.probes.families import Case


def _case(model, apply, batch, key, kind=nnx.Param):
    graph, params, rest = nnx.split(model, kind, ...)
    params, rest = jiggled(params, key), _state(rest)
    loss = lambda params, batch: apply(nnx.merge(graph, params, rest, copy=True), batch)
    return Case(loss, params, batch, hgeo.find_layers(params))


def _state(rest):
    """Keys of random streams stay as they are."""
    keys, numbers = nnx.split_state(rest, nnx.RngState, ...)
    return nnx.merge_state(keys, as_float(numbers))


class _Block(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(
            2, 4, dropout_rate=0.2, decode=False, deterministic=False, rngs=rngs
        )
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, deterministic=False, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.dropout(nnx.gelu(self.dense(x)))


def attention(key):
    """Two blocks with dropout on, whose random streams are part of the model's state."""
    draw = draws(key)
    rngs = nnx.Rngs(params=0, dropout=1)
    model = nnx.Sequential(_Block(rngs), _Block(rngs))
    batch = {"x": draw(2, 3, 4), "y": jnp.arange(6).reshape(2, 3) % 4}
    apply = lambda model, batch: cross_entropy(model(batch["x"]), batch["y"])
    return _case(model, apply, batch, key)


def batch_norm(key):
    """Two convolutions with batch norm in training mode."""
    draw = draws(key)
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Conv(2, 3, (3, 3), rngs=rngs),
        nnx.BatchNorm(3, rngs=rngs),
        nnx.swish,
        nnx.Conv(3, 4, (2, 2), 2, rngs=rngs),
        nnx.BatchNorm(4, rngs=rngs),
        nnx.relu,
        lambda x: jnp.mean(x, axis=(1, 2)),
        nnx.Linear(4, 3, rngs=rngs),
    )
    batch = {"x": draw(4, 4, 4, 2), "y": jnp.arange(4) % 3}
    apply = lambda model, batch: cross_entropy(model(batch["x"]), batch["y"])
    return _case(model, apply, batch, key)


def lora(key):
    """Frozen dense layers with adapters of rank 2, of which the adapters alone are probed."""
    draw = draws(key)
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.LoRALinear(3, 5, lora_rank=2, rngs=rngs),
        nnx.gelu,
        nnx.LoRALinear(5, 2, lora_rank=2, rngs=rngs),
    )
    batch = {"x": draw(4, 3), "y": draw(4, 2)}
    apply = lambda model, batch: jnp.mean((model(batch["x"]) - batch["y"]) ** 2)
    return _case(model, apply, batch, key, kind=nnx.LoRAParam)


MODELS = {model.__name__: model for model in (attention, batch_norm, lora)}
