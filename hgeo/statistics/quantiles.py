"""Quantiles of entries that may be infinite or near the largest number of their dtype."""

from typing import Any

import jax
import jax.numpy as jnp


def quantile(entries: jax.Array, level: float) -> jax.Array:
    """The quantile along the last axis, of shape `(...)`; NaN if an entry is NaN."""
    if not jnp.issubdtype(entries.dtype, jnp.floating):
        entries = entries.astype(float)
    ordered = jnp.sort(entries, axis=-1)  # NaN last
    return jnp.where(jnp.isnan(ordered[..., -1]), jnp.nan, quantile_of_ordered(ordered, level))


def quantile_of_ordered(ordered: Any, level: float) -> Any:
    """The quantile of entries in ascending order, of a NumPy or a JAX array.

    Between two entries it is interpolated linearly. Unlike `jnp.quantile` and `jnp.median`, it does
    not overflow between them, and it is inf between two infinite entries.
    """
    # 0.95 times an integer may differ from an integer by rounding.
    low, above = divmod(round(level * (ordered.shape[-1] - 1), 9), 1.0)
    first = ordered[..., int(low)]
    return (1 - above) * first + above * ordered[..., int(low) + 1] if above else first
