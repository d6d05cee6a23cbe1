"""Quadratic forms vᵀHv along given directions of a layer."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax

from hgeo.losses import Loss
from hgeo.params.directions import Directions
from hgeo.second_order.evaluate import evaluate_quadratic_forms

PyTree = Any


def quadratic_forms(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    directions: Mapping[str, Directions],
    *,
    mode: str = "auto",
    chunk_size: int | str = "auto",
    memory_budget: int | None = None,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
    remat: str = "auto",
) -> "OrderedDict[str, jax.Array]":
    """Computes the curvature vᵀHv of the loss along given directions of each layer.

        vᵀHv = d²/dε² L(w + ε v) at ε = 0,   L = Σ total / Σ weight over the batch

    In adjoint-weighted mode each direction takes one forward tangent sweep, half the time of a
    Hessian-vector product. The mean over random sign vectors v estimates the trace. For directions
    through several layers, define these as one layer (`find_layers` with a mapping from a name to
    several paths).

    Under `jit`, params and batch may lie in shards by any `NamedSharding`.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree.
      batch: any pytree.
      directions: `Directions` by layer name, vectors of shape `(n, layer.size)`.
      mode: as in `sampled_diagonal`.
      chunk_size: directions that are computed together, as in `sampled_diagonal`.
      memory_budget: the same.
      microbatch_size: the same.
      precision: the same.
      axis_name: the same.
      remat: the same.

    Returns:
      An `OrderedDict` of arrays of shape `(n,)` by layer name, in the layer's dtype. Their unit is
      that of the loss if v has the units of the weights.

    Raises:
      ValueError: as `sampled_diagonal`.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch @ params["kernel"]) ** 2)
      >>> params, batch = {"kernel": jnp.ones((3, 2))}, jnp.eye(3)
      >>> layer = hgeo.find_layers(params)["kernel"]
      >>> directions = {"kernel": hgeo.Directions(layer, jnp.ones((1, 6)))}
      >>> print(hgeo.quadratic_forms(loss, params, batch, directions)["kernel"])
      [2.]

    Reference:
      Pearlmutter. Fast Exact Multiplication by the Hessian. Neural Computation, 1994.
    """
    values, _ = evaluate_quadratic_forms(
        loss,
        params,
        batch,
        directions,
        mode=mode,
        chunk_size=chunk_size,
        memory_budget=memory_budget,
        microbatch_size=microbatch_size,
        precision=precision,
        axis_name=axis_name,
        remat=remat,
    )
    return values
