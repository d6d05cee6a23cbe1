"""Optax's losses over a small network."""

import jax
import jax.numpy as jnp
import optax

import hgeo
from tests.integration.zoo.inputs import draws
from tests.probes.families import Case


def _case(key, of_outputs, targets, width):
    draw = draws(key)
    params = {"w1": 2.0 * draw(3, 5), "w2": 2.0 * draw(5, width)}
    batch = {"x": draw(2, 6, 3), **targets}

    def loss(params, batch):
        return of_outputs(jnp.tanh(batch["x"] @ params["w1"]) @ params["w2"], batch)

    return Case(loss, params, batch, hgeo.find_layers(params))


def ctc(key):
    """Connectionist temporal classification, with padded frames and labels."""
    targets = {
        "frames": jnp.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]], jnp.result_type(float)),
        "labels": jnp.array([[1, 2, 2], [3, 1, 0]]),
        "padding": jnp.array([[0, 0, 0], [0, 0, 1]], jnp.result_type(float)),
    }

    def of_outputs(logits, batch):
        frames, labels, padding = batch["frames"], batch["labels"], batch["padding"]
        return jnp.mean(optax.ctc_loss(logits, frames, labels, padding))

    return _case(key, of_outputs, targets, 4)


def contrastive(key):
    """Losses that mix examples or pick by rank: InfoNCE, triplets, focal, hinge and Huber."""
    targets = {"y": jax.random.randint(key, (2, 6), 0, 4)}

    def of_outputs(outputs, batch):
        flat = outputs.reshape(-1, 4)
        one_hot = jax.nn.one_hot(batch["y"].ravel(), 4, dtype=flat.dtype)
        return (
            optax.losses.ntxent(flat, batch["y"].ravel())
            + jnp.mean(optax.sigmoid_focal_loss(flat, one_hot))
            + jnp.mean(optax.losses.kl_divergence(jax.nn.log_softmax(flat), one_hot))
            + jnp.mean(optax.huber_loss(flat, one_hot))
            + jnp.mean(optax.safe_softmax_cross_entropy(flat, one_hot))
            + jnp.mean(optax.cosine_distance(flat, one_hot, epsilon=1e-6))
            + jnp.mean(optax.losses.poly_loss_cross_entropy(flat, one_hot))
        )

    return _case(key, of_outputs, targets, 4)


MODELS = {model.__name__: model for model in (ctc, contrastive)}
