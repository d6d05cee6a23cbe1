"""The loss and accuracy of each example, for the classification tasks."""

import jax
import jax.numpy as jnp
import optax

from hgeo.losses import Weighted


def class_loss(logits_BxC: jax.Array, labels_B: jax.Array) -> Weighted:
    """Cross-entropy summed over the examples, and their number."""
    losses_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxC, labels_B)
    return Weighted(jnp.sum(losses_B), jnp.asarray(losses_B.size, losses_B.dtype))


def class_metrics(logits_BxC: jax.Array, labels_B: jax.Array) -> dict[str, Weighted]:
    """Each example's cross-entropy, and whether its class has the largest logit."""
    losses_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxC, labels_B)
    right_B = (jnp.argmax(logits_BxC, axis=-1) == labels_B).astype(losses_B.dtype)
    ones_B = jnp.ones_like(losses_B)
    return {"loss": Weighted(losses_B, ones_B), "accuracy": Weighted(right_B, ones_B)}
