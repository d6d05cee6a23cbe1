"""Values that differ between the devices of a `shard_map`, or are equal on all of them."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.losses import varying_axes


def zeros_of(aval: Any) -> jax.Array:
    """Zeros of a variable's shape and dtype, that vary over the devices as the variable does."""
    return varying_as(aval, jnp.zeros(aval.shape, aval.dtype))


def varying_as(aval: Any, array: jax.Array) -> jax.Array:
    """The array, marked as varying over the device axes over which a variable varies."""
    missing = tuple(varying_axes(aval) - varying_axes(jax.typeof(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


def own_adjoint(aval: Any, output: Any, adjoint: jax.Array) -> jax.Array:
    """One device's share of an adjoint.

    Behind a collective, all devices hold the same value: a sum over them counts it again.

    Args:
      aval: of the variable.
      output: of the program's output.
      adjoint: of the variable.
    """
    shared = varying_axes(output) - varying_axes(aval)
    devices = math.prod(jax.lax.axis_size(axis) for axis in shared)
    return adjoint / devices if devices > 1 else adjoint
