"""Where a training state stops being finite: in the gradient, the optimizer's state or the weights.

The compiled update checks every array that has the params' names and returns the number of the
first array with an inf or a NaN. This module translates the number. Scalars of an optimizer's state
are skipped, because some of Optax's start at infinity.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, GetAttrKey

PyTree = Any


def first_not_finite(grads: PyTree, optimizer: PyTree, variables: PyTree) -> jax.Array:
    """The number of the first array that is not finite, an int32; −1 where all are."""
    watched = [leaf for _, _, leaf in _watched(grads, optimizer, variables)]
    finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in watched])
    # argmin returns the first of equal values.
    return jnp.where(jnp.all(finite), -1, jnp.argmin(finite)).astype(jnp.int32)


def describe(number: int, optimizer: PyTree, variables: PyTree) -> tuple[str, str]:
    """The quantity and the layer behind a number of `first_not_finite`.

    Args:
      number: 0 or more.
      optimizer: the optimizer's state; only its structure is used.
      variables: the model's variables; only their structure is used.
    """
    watched = list(_watched(variables["params"], optimizer, variables))
    return watched[number][:2]


def _watched(
    grads: PyTree, optimizer: PyTree, variables: PyTree
) -> Iterator[tuple[str, str, jax.Array]]:
    """(quantity, layer, array), in the order in which an update makes them."""
    for quantity, tree in (
        ("gradient", grads),
        ("optimizer state", optimizer),
        ("weights", {"params": variables["params"]}),
        ("running statistics", {k: v for k, v in variables.items() if k != "params"}),
    ):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            names = [str(part.key) for part in path if isinstance(part, DictKey)]
            parts = [part.name for part in path if isinstance(part, GetAttrKey)]
            if names and jnp.issubdtype(leaf.dtype, jnp.inexact):
                layer = "/".join(names[1:] if quantity == "weights" else names)
                yield f"{quantity} {parts[-1]}" if parts else quantity, layer, leaf
