"""A model replaced by its first-order expansion at the params that it is called with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

PyTree = Any


def linearised(model: Callable[[PyTree], PyTree], params: PyTree) -> PyTree:
    """z + J (w − w₀) at w = w₀ = params, where w moves under differentiation and w₀ does not.

    Its value is the model's, its first derivative too; its second derivative is zero.

    Args:
      model: params -> a pytree of arrays.
      params: any pytree; floating leaves move.

    Where a `custom_vjp` function has no forward derivative, J is the transpose of the pullback Jᵀ.

    Raises:
      ValueError: a model in which such a function's own rule has no transpose.
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

    if _has_reverse_rule(jax.make_jaxpr(of_free)(*fixed).jaxpr):
        outputs, changes = _by_transposition(of_free, fixed, steps)
    else:
        outputs, changes = jax.jvp(of_free, fixed, steps)
    return jax.tree.map(lambda z, dz: z + dz if _is_inexact(z) else z, outputs, changes)


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _has_reverse_rule(jaxpr: core.Jaxpr) -> bool:
    return any(
        eqn.primitive.name.startswith("custom_vjp_call")
        or any(map(_has_reverse_rule, core.jaxprs_in_params(dict(eqn.params))))
        for eqn in jaxpr.eqns
    )


def _by_transposition(function, points, steps):
    """The outputs and J times the steps, from the pullback Jᵀ alone."""
    outputs, pullback = jax.vjp(function, *points)
    leaves, treedef = jax.tree.flatten(outputs)
    free = [k for k, z in enumerate(leaves) if _is_inexact(z)]

    def transposed(*cotangents):
        full = [np.zeros(z.shape, jax.dtypes.float0) for z in leaves]
        for k, cotangent in zip(free, cotangents, strict=True):
            full[k] = cotangent
        return pullback(jax.tree.unflatten(treedef, full))

    try:
        moved = jax.linear_transpose(transposed, *(leaves[k] for k in free))(tuple(steps))
    except Exception as error:  # whatever a kernel's own rule may raise
        raise ValueError(
            "the model has a custom_vjp function, whose rule is a reverse one, and the transpose "
            f"of this rule, which stands for the forward derivative, fails: {error}"
        ) from error
    changes = [None] * len(leaves)
    for k, change in zip(free, moved, strict=True):
        changes[k] = change
    return outputs, jax.tree.unflatten(treedef, changes)
