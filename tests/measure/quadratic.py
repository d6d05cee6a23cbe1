"""A loss of a few numbers and its monitor, for tests of bad input."""

import jax
import jax.numpy as jnp

import hgeo

PARAMS = {"w": jnp.arange(1.0, 7.0).reshape(2, 3)}
BATCH = jnp.arange(8.0).reshape(4, 2)
LAYERS = hgeo.find_layers(PARAMS)
LAYER = LAYERS["w"]
KEY = jax.random.key(0)
ONE = jax.devices()[:1]


def mean_square(params, batch):
    return jnp.mean((batch @ params["w"]) ** 2)


def monitor(**more):
    given = {"loss": mean_square, "layers": LAYERS, "num": 2, "every": 1, "devices": ONE, **more}
    return hgeo.Monitor(given.pop("loss"), given.pop("layers"), **given)
