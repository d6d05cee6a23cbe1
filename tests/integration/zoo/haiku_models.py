"""Haiku: pure functions out of modules by `hk.transform`."""

import haiku as hk
import jax
import jax.numpy as jnp

import hgeo
from tests.integration.zoo.inputs import cross_entropy, draws, jiggled
from tests.probes.families import Case


def transformer(key):
    """Two pre-LN blocks with a causal mask."""

    def forward(tokens):
        size = tokens.shape[-1]
        x = hk.Embed(7, 4)(tokens)
        causal = jnp.tril(jnp.ones((1, 1, size, size)))
        for _ in range(2):
            normed = hk.LayerNorm(-1, True, True)(x)
            init = hk.initializers.VarianceScaling(2.0)
            attention = hk.MultiHeadAttention(2, 2, w_init=init, model_size=4)
            x = x + attention(normed, normed, normed, causal)
            normed = hk.LayerNorm(-1, True, True)(x)
            x = x + hk.Linear(4)(jax.nn.gelu(hk.Linear(6)(normed)))
        return hk.Linear(7)(hk.LayerNorm(-1, True, True)(x))

    model = hk.without_apply_rng(hk.transform(forward))
    tokens = jax.random.randint(key, (2, 5), 0, 7)
    batch = {"x": tokens[:, :-1], "y": tokens[:, 1:]}
    params = jiggled(model.init(key, batch["x"]), key)
    loss = lambda params, batch: cross_entropy(model.apply(params, batch["x"]), batch["y"])
    return Case(loss, params, batch, hgeo.find_layers(params))


def _recurrent(key, core):
    """Two layers of a recurrent core, unrolled by a scan."""

    def forward(x):
        cores = hk.DeepRNN([core(4), core(3)])
        outputs, _ = hk.dynamic_unroll(cores, x, cores.initial_state(x.shape[1]))
        return hk.Linear(2)(outputs)

    model = hk.without_apply_rng(hk.transform(forward))
    draw = draws(key)
    batch = {"x": draw(4, 3, 2), "y": draw(4, 3, 2)}
    params = jiggled(model.init(key, batch["x"]), key)
    loss = lambda params, batch: jnp.mean((model.apply(params, batch["x"]) - batch["y"]) ** 2)
    return Case(loss, params, batch, hgeo.find_layers(params))


def lstm(key):
    return _recurrent(key, hk.LSTM)


def gru(key):
    return _recurrent(key, hk.GRU)


MODELS = {model.__name__: model for model in (transformer, lstm, gru)}
