"""Checks of numbers, keys and functions that several public functions take."""

import operator
from typing import Any

import jax
import jax.numpy as jnp


def check_whole(name: str, value: Any) -> None:
    """Raises a TypeError unless the value is a whole number."""
    try:
        operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from error


def check_key(key: Any) -> None:
    """Raises a TypeError unless `key` is a PRNG key, of `jax.random.key` or the older kind."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and shape is not None and len(shape) == 1):
        raise TypeError(f"key must be a PRNG key such as jax.random.key(0), not {key!r}")


def check_function(name: str, value: Any) -> None:
    """Raises a TypeError unless the value can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")
