"""Keras on JAX: `stateless_call`, with the variables as lists of arrays."""

import jax
import jax.numpy as jnp
import keras
from keras import layers

import hgeo
from tests.integration.zoo.inputs import cross_entropy, draws, jiggled
from tests.probes.families import Case


def _case(model, batch, key):
    params = jiggled([variable.value for variable in model.trainable_variables], key)
    paths = [variable.path for variable in model.trainable_variables]
    rest = [variable.value for variable in model.non_trainable_variables]

    def loss(params, batch):
        logits, _ = model.stateless_call(params, rest, batch["x"], training=True)
        return cross_entropy(logits, batch["y"])

    chosen = {path: str(position) for position, path in enumerate(paths) if path.endswith("kernel")}
    return Case(loss, params, batch, hgeo.find_layers(params, chosen))


def attention(key):
    """Token and position embeddings and two attention blocks."""
    keras.config.set_floatx(jnp.result_type(float).name)
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 4)(tokens)
    for _ in range(2):
        normed = layers.LayerNormalization()(x)
        attended = layers.MultiHeadAttention(2, 2, flash_attention=False)
        x = layers.add([x, attended(normed, normed, use_causal_mask=True)])
        hidden = layers.Dense(6, "gelu")(layers.LayerNormalization()(x))
        x = layers.add([x, layers.Dense(4)(hidden)])
    model = keras.Model(tokens, layers.Dense(7)(x))
    ids = jax.random.randint(key, (2, 5), 0, 7)
    batch = {"x": ids[:, :-1], "y": ids[:, 1:]}
    return _case(model, batch, key)


def convolution(key):
    """Two convolutions, one of them separable, with batch norm in training mode."""
    keras.config.set_floatx(jnp.result_type(float).name)
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(3, 3, padding="same"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.SeparableConv2D(4, 2),
            layers.BatchNormalization(),
            layers.Activation("gelu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    batch = {"x": draws(key)(3, 5, 5, 2), "y": jnp.arange(3)}
    return _case(model, batch, key)


def lstm(key):
    """An LSTM below a GRU."""
    keras.config.set_floatx(jnp.result_type(float).name)
    model = keras.Sequential(
        [
            keras.Input((4, 2)),
            layers.LSTM(3, return_sequences=True),
            layers.GRU(3),
            layers.Dense(2),
        ]
    )
    return _case(model, {"x": draws(key)(3, 4, 2), "y": jnp.arange(3) % 2}, key)


MODELS = {model.__name__: model for model in (attention, convolution, lstm)}
