"""What the models of the zoo are built from: random arrays, their dtype, a plain loss."""

import itertools

import jax
import jax.numpy as jnp


def draws(key):
    """A function of a shape that draws a normal array, each time with another key.

    Divided by the root of the first size, as weights are; in the dtype that is the default.
    """
    count = itertools.count()

    def draw(*shape):
        own = jax.random.fold_in(key, next(count))
        return jax.random.normal(own, shape, jnp.result_type(float)) / shape[0] ** 0.5

    return draw


def as_float(tree):
    """Floating leaves in the default dtype; packages that initialise do it in float32."""
    return jax.tree.map(
        lambda x: x.astype(jnp.result_type(float)) if jnp.issubdtype(x.dtype, jnp.floating) else x,
        tree,
    )


def jiggled(tree, key):
    """A tree whose floating leaves are moved off special values: zero biases, unit scales."""
    leaves, treedef = jax.tree.flatten(as_float(tree))
    draw = draws(key)
    moved = [
        x + 0.1 * draw(1, *x.shape)[0] if jnp.issubdtype(x.dtype, jnp.floating) else x
        for x in leaves
    ]
    return jax.tree.unflatten(treedef, moved)


def cross_entropy(logits, labels):
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], axis=-1))
