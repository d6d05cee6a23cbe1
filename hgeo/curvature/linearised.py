"""The first-order expansion of a model at the params of the call."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

PyTree = Any


def linearised(model: Callable[[PyTree], PyTree], params: PyTree) -> PyTree:
    """Computes z + J (w − w₀) at w = w₀ = params, where w₀ is constant under differentiation.

    Its value and first derivative are the model's; its second derivative is zero. If a `custom_vjp`
    function has no forward derivative, J is the transpose of the pullback Jᵀ.

    Args:
      model: params -> a pytree of arrays.
      params: any pytree; w holds its floating leaves.

    Raises:
      ValueError: the rule of a `custom_vjp` function has no transpose.
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
    """The outputs and J times the steps, from the pullback Jᵀ."""
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
    except Exception as error:  # a custom rule may raise any error
        raise ValueError(
            "the model must have a forward derivative, but it has a custom_vjp function, whose "
            f"reverse rule can't be transposed: {error}"
        ) from error
    changes = [None] * len(leaves)
    for k, change in zip(free, moved, strict=True):
        changes[k] = change
    return outputs, jax.tree.unflatten(treedef, changes)
