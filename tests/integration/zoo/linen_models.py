"""Flax Linen: lifted transformations."""

import jax
from flax import linen as nn

import hgeo
from tests.integration.zoo.inputs import cross_entropy, draws, jiggled
from tests.probes.families import Case


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        x = x + nn.MultiHeadDotProductAttention(2)(nn.RMSNorm()(x))
        return x + nn.Dense(4)(nn.silu(nn.Dense(6)(nn.RMSNorm()(x)))), None


class _Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        block = nn.remat(_Block, prevent_cse=False)
        stacked = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return nn.Dense(5)(stacked(name="blocks")(x, None)[0])


def scan_remat(key):
    """Two blocks stacked by `nn.scan`, each recomputed on the way back."""
    draw, module = draws(key), _Stack()
    batch = {"x": draw(2, 3, 4), "y": jax.random.randint(key, (2, 3), 0, 5)}
    params = jiggled(module.init(key, batch["x"]), key)
    loss = lambda params, batch: cross_entropy(module.apply(params, batch["x"]), batch["y"])
    return Case(loss, params, batch, hgeo.find_layers(params, stacked="blocks"))


class _Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        kind = x.dtype
        x = nn.RNN(nn.OptimizedLSTMCell(4, param_dtype=kind))(x)
        gated = nn.RNN(nn.GRUCell(2, param_dtype=kind)), nn.RNN(nn.MGUCell(2, param_dtype=kind))
        x = nn.Bidirectional(*gated)(x)
        return nn.Dense(3)(x)


def recurrence(key):
    """An LSTM below a bidirectional pair of gated cells."""
    draw, module = draws(key), _Recurrent()
    batch = {"x": draw(2, 4, 3), "y": jax.random.randint(key, (2, 4), 0, 3)}
    params = jiggled(module.init(key, batch["x"]), key)
    loss = lambda params, batch: cross_entropy(module.apply(params, batch["x"]), batch["y"])
    return Case(loss, params, batch, hgeo.find_layers(params, "(hi|if|in|hz|hn|f)/kernel|Dense"))


MODELS = {model.__name__: model for model in (scan_remat, recurrence)}
