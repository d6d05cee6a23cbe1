"""A part of a program that XLA compiles as a computation of its own."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core

from hgeo.second_order.device_axes import zeros_of

PyTree = Any


def isolated(function: Callable[..., PyTree], *arguments: Any) -> PyTree:
    """Calls a function so that its temporaries live during the call alone.

    XLA's CPU compiler orders all operations of a computation together. It may run an operation long
    before its result is read, also one that `jax.checkpoint` repeats to save memory. The branch of
    a conditional is another computation, which runs as a whole.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    body = lambda constants: core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, constants))
    run = lambda constants, *leaves: body(constants)(*leaves)
    otherwise = lambda *_: [zeros_of(aval) for aval in closed.out_avals]
    # XLA must not know that the other branch is never taken.
    always = jax.lax.optimization_barrier(np.True_)
    outputs = jax.lax.cond(always, run, otherwise, closed.consts, *jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)
