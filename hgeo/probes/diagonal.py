"""Exact entries of the Hessian diagonal at sampled coordinates of each layer."""

import contextlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.losses import Loss, as_weighted, over_devices
from hgeo.probes.coordinates import Coordinates
from hgeo.probes.microbatches import sum_over_microbatches
from hgeo.probes.nested import forward_over_forward, forward_over_reverse

PyTree = Any

MODES = {
    "forward_over_reverse": forward_over_reverse,
    "forward_over_forward": forward_over_forward,
}


def sampled_diagonal(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    coordinates: Mapping[str, Coordinates],
    *,
    mode: str = "forward_over_reverse",
    chunk_size: int = 4,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
) -> "OrderedDict[str, jax.Array]":
    """Exact entries of each layer's Hessian diagonal, at the given coordinates.

        H_ii = ∂²L/∂w_i²,   L = Σ total / Σ weight over the batch,

    where w is the layer's flat vector and every other weight stays as it is. It does not jit;
    callers do (or take `make_probe`). It runs inside `jit`, under `vmap` over stacked params, and
    in `shard_map` or `pmap` with a named axis.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree.
      batch: any pytree; with `microbatch_size`, arrays whose leading axis counts the examples.
      coordinates: what `sample_coordinates` gives, or any part of it.
      mode: `"forward_over_reverse"` (`jax.jvp` over `jax.grad`) or `"forward_over_forward"`
        (`jax.jvp` over `jax.jvp`: less memory). They agree to rounding.
      chunk_size: coordinates that are computed together, by `vmap`; it changes speed and memory,
        not values.
      microbatch_size: examples that are computed together; `None`, the whole batch.
      precision: of matrix products, as `jax.default_matmul_precision` takes it; `None` leaves
        the ambient one.
      axis_name: the named axis over which the batch is split; the loss is then the device's own,
        and only totals, weights and results are summed over the axis.

    Returns:
      An `OrderedDict` of arrays of shape `(K,)` by layer name, in the order of `coordinates`, in
      the layer's dtype and in units of the loss over the weight's square. A coordinate outside
      its layer or a total weight of zero, known only at run time, gives NaN.

    Raises:
      ValueError: a loss that is not scalar, params that do not fit the coordinates, an unknown
        mode, `chunk_size` or `microbatch_size` below 1, no coordinates.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch["x"] @ params["kernel"]) ** 2)
      >>> params, batch = {"kernel": jnp.ones((3, 2))}, {"x": jnp.eye(3)}
      >>> layers = hgeo.find_layers(params)
      >>> coordinates = hgeo.sample_coordinates(layers, 6, jax.random.key(0))
      >>> print(hgeo.sampled_diagonal(loss, params, batch, coordinates)["kernel"])
      [0.33333334 0.33333334 0.33333334 0.33333334 0.33333334 0.33333334]

    Reference:
      Pearlmutter. Fast Exact Multiplication by the Hessian. Neural Computation, 1994.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {sorted(MODES)}, not {mode!r}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    if not coordinates:
        raise ValueError("no coordinates were given, so there is nothing to probe")
    params = over_devices(params, axis_name)

    def sums(piece, count):
        total = lambda params: as_weighted(loss, params, piece, count).total
        entries = MODES[mode](total, params, coordinates, chunk_size)
        return list(entries.values()), as_weighted(loss, params, piece, count).weight

    with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
        entries, weight = sum_over_microbatches(sums, batch, microbatch_size)
    if axis_name is not None:
        entries, weight = jax.lax.psum((entries, weight), axis_name)
    _check_weight(weight)

    results = OrderedDict()
    for (name, chosen), totals in zip(coordinates.items(), entries, strict=True):
        inside = (chosen.indices >= 0) & (chosen.indices < chosen.layer.size)
        results[name] = jnp.where(inside, totals / weight.astype(totals.dtype), jnp.nan)
    return results


def _check_weight(weight: jax.Array) -> None:
    if not isinstance(weight, jax.core.Tracer) and weight == 0:
        raise ValueError("the batch's total weight is 0, so its mean loss is undefined")
