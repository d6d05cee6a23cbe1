"""Checks and counts of the entries that statistics take."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike


def checked(name: str, entries: ArrayLike) -> jax.Array:
    """The entries as an array, with at least one entry along the last axis.

    Raises:
      TypeError: the entries are no array of real numbers.
      ValueError: there are no entries, or none is finite; traced values are not checked.
    """
    try:
        array = jnp.asarray(entries)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} takes an array of numbers, not {entries!r:.60}") from error
    if jnp.iscomplexobj(array):
        raise TypeError(f"{name} takes real entries, not an array of {array.dtype}")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(
            f"{name} needs entries along the last axis; an array of shape {array.shape} has none"
        )
    if not isinstance(array, Tracer) and not np.isfinite(np.asarray(array, np.float64)).any():
        raise ValueError(f"{name} needs a finite entry; not one of the {array.size} entries is")
    return array


def counts(entries: ArrayLike, prefix: str = "") -> dict[str, int]:
    """The numbers of entries, of zero entries, and of entries that are inf or NaN."""
    array = np.asarray(entries)
    return {
        f"{prefix}num_entries": array.size,
        f"{prefix}num_zero": int((array == 0).sum()),
        f"{prefix}num_nonfinite": int((~np.isfinite(array)).sum()),
    }
