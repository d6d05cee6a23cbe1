"""JAX alone: every kind of convolution and pooling."""

import jax
import jax.numpy as jnp

import hgeo
from tests.integration.zoo.inputs import cross_entropy, draws
from tests.probes.families import Case

LAYOUT = ("NHWC", "HWIO", "NHWC")


def _case(key, sizes, apply, shape):
    draw = draws(key)
    params = {name: 0.7 * draw(*size) for name, size in sizes.items()}
    batch = {"x": draw(3, *shape), "y": jnp.arange(3) % 2}

    def loss(params, batch):
        features = apply(params, batch["x"])
        pooled = jnp.mean(features, axis=tuple(range(1, features.ndim - 1)))
        return cross_entropy(pooled @ params["head"], batch["y"])

    return Case(loss, params, batch, hgeo.find_layers(params))


def images(key):
    """Strided, dilated, grouped, depthwise and transposed, with both kinds of pooling."""
    sizes = {
        "strided": (3, 3, 2, 4),
        "dilated": (2, 2, 4, 4),
        "grouped": (2, 2, 2, 4),
        "depthwise": (2, 2, 1, 4),
        "transposed": (2, 2, 3, 4),
        "pointwise": (1, 1, 4, 3),
        "head": (3, 2),
    }

    def conv(x, kernel, strides=(1, 1), **options):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, "SAME", dimension_numbers=LAYOUT, **options
        )

    def apply(params, x):
        x = jax.nn.gelu(conv(x, params["strided"], (2, 2)))
        x = x + jnp.tanh(conv(x, params["dilated"], rhs_dilation=(2, 2)))
        x = jax.nn.silu(conv(x, params["grouped"], feature_group_count=2))
        x = jnp.sin(conv(x, params["depthwise"], feature_group_count=4))
        x = jax.nn.softplus(conv(x, params["pointwise"]))
        x = jax.lax.conv_transpose(
            x, params["transposed"], (2, 2), "SAME", dimension_numbers=LAYOUT
        )
        x = conv(x, params["pointwise"])
        window = (1, 2, 2, 1), (1, 1, 1, 1), "VALID"
        highest = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)
        return highest + jax.lax.reduce_window(x**2, 0.0, jax.lax.add, *window)

    return _case(key, sizes, apply, (6, 6, 2))


def signals(key):
    """Along one axis: causal, dilated, gated (as WaveNet)."""
    sizes = {"filter": (2, 3, 3), "gate": (2, 3, 3), "skip": (1, 3, 4), "head": (4, 2)}

    def conv(x, kernel, dilation=1):
        left = (kernel.shape[0] - 1) * dilation
        return jax.lax.conv_general_dilated(
            x, kernel, (1,), [(left, 0)], (1,), (dilation,), ("NWC", "WIO", "NWC")
        )

    def apply(params, x):
        for dilation in (1, 2):
            gate = jax.nn.sigmoid(conv(x, params["gate"], dilation))
            x = x + jnp.tanh(conv(x, params["filter"], dilation)) * gate
        return conv(x, params["skip"])

    return _case(key, sizes, apply, (6, 3))


def volumes(key):
    """Along three axes, with an image that is resized between."""
    sizes = {"volume": (2, 2, 2, 1, 3), "plane": (2, 2, 3, 3), "head": (3, 2)}

    def apply(params, x):
        layout = ("NDHWC", "DHWIO", "NDHWC")
        x = jax.lax.conv_general_dilated(
            x, params["volume"], (1, 1, 1), "VALID", dimension_numbers=layout
        )
        x = jnp.mean(jnp.tanh(x), axis=1)
        x = jax.image.resize(x, (len(x), 5, 5, 3), "bilinear")
        x = jax.lax.conv_general_dilated(
            x, params["plane"], (1, 1), "VALID", dimension_numbers=LAYOUT
        )
        return jnp.tanh(x)

    return _case(key, sizes, apply, (3, 3, 3, 1))


MODELS = {model.__name__: model for model in (images, signals, volumes)}
