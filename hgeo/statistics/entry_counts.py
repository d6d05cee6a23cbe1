"""What every statistic asks of the entries that it is given, and what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike


def checked(name: str, entries: ArrayLike) -> jax.Array:
    """The entries as an array, of at least one along the last axis.

    Raises:
      TypeError: it is no array of real numbers.
      ValueError: there are none, or (where the values are known) not one of them is finite.
    """
    try:
        array = jnp.asarray(entries)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} takes an array of numbers, not {entries!r:.60}") from error
    if jnp.iscomplexobj(array):
        raise TypeError(f"{name} takes real entries, not an array of {array.dtype}")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(
            f"{name} takes entries along the last axis; an array of shape {array.shape} has none"
        )
    if not isinstance(array, Tracer) and not np.isfinite(np.asarray(array, np.float64)).any():
        raise ValueError(f"{name}: not one of the {array.size} entries is finite")
    return array


def counts(entries: ArrayLike, prefix: str = "") -> dict[str, int]:
    """How many entries there are, how many of them are zero, and how many inf or NaN."""
    array = np.asarray(entries)
    return {
        f"{prefix}num_entries": array.size,
        f"{prefix}num_zero": int((array == 0).sum()),
        f"{prefix}num_nonfinite": int((~np.isfinite(array)).sum()),
    }
