"""A model replaced by its first-order expansion at the params that it is called with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def linearised(model: Callable[[PyTree], PyTree], params: PyTree) -> PyTree:
    """z + J (w − w₀) at w = w₀ = params, where w moves under differentiation and w₀ does not.

    Its value is the model's, its first derivative too; its second derivative is zero.

    Args:
      model: params -> a pytree of arrays.
      params: any pytree; floating leaves move.

    Raises:
      ValueError: the model has no forward derivative.
    """
    leaves, treedef = jax.tree.flatten(params)
    free = [k for k, leaf in enumerate(leaves) if _is_inexact(leaf)]
    fixed = [jax.lax.stop_gradient(leaves[k]) for k in free]
    steps = [leaves[k] - start for k, start in zip(free, fixed, strict=True)]

    def of_free(*moved):
        full = list(leaves)
        for k, leaf in zip(free, moved, strict=True):
            full[k] = leaf
        return model(jax.tree.unflatten(treedef, full))

    try:
        outputs, changes = jax.jvp(of_free, fixed, steps)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise ValueError(
            "the model has a custom_vjp function, whose rule is a reverse one alone; "
            "its forward derivative is needed here"
        ) from error
    return jax.tree.map(lambda z, dz: z + dz if _is_inexact(z) else z, outputs, changes)


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
