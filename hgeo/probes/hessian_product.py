"""Hessian-vector products of one layer, or of several taken together."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.losses import Loss, as_weighted, over_devices
from hgeo.probes.arguments import check_layers
from hgeo.probes.averaging import averaged, divided, matmul_precision
from hgeo.probes.directions import Directions
from hgeo.probes.layers import Layer
from hgeo.probes.modes import choose

PyTree = Any


def together(layers: Layer | Mapping[str, Layer]) -> Layer:
    """One layer that holds the weights of all, in order.

    Raises:
      ValueError: no layers, or weights that are in two of them.
    """
    if isinstance(layers, Layer):
        return layers
    check_layers(layers)
    if not layers:
        raise ValueError("no layers were given, so there is nothing to probe")
    parts = [part for layer in layers.values() for part in layer.parts]
    twice = sorted({str(part) for part in parts if parts.count(part) > 1})
    if twice:
        raise ValueError(f"layers that are taken together share {twice}")
    return Layer(
        " + ".join(layers),
        tuple(parts),
        tuple(shape for layer in layers.values() for shape in layer.shapes),
        tuple(dtype for layer in layers.values() for dtype in layer.dtypes),
    )


def hessian_product(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layer: Layer,
    *,
    microbatch_size: int | None,
    precision: str | None,
    axis_name: str | None,
) -> Callable[[jax.Array], jax.Array]:
    """v -> Hv for a layer's own block of the mean loss's Hessian; may be vmapped.

    `jax.jvp` over `jax.grad`, linearised once where the batch is one piece.

    Raises:
      ValueError: a loss that is not scalar or has no derivative of its gradient.
    """

    def gradient(total, params):
        check = {layer.name: Directions(layer, jnp.zeros((1, layer.size), layer.dtype))}
        choose("forward_over_reverse", total, params, check)
        return jax.grad(lambda weights: total(layer.replace(params, weights)))

    if microbatch_size is None:
        params = over_devices(params, axis_name)
        total = lambda params: jnp.asarray(as_weighted(loss, params, batch).total)
        weights = layer.ravel(params)
        weight = jnp.asarray(as_weighted(loss, params, batch).weight)
        with matmul_precision(precision):
            push = jax.linearize(gradient(total, params), weights)[1]
        along = lambda vector: jnp.zeros_like(weights) + vector.astype(weights.dtype)
        return lambda vector: divided(push(along(vector)), weight, axis_name)

    def product(vector):
        def of_piece(total, params, piece):
            weights = layer.ravel(params)
            step = jnp.zeros_like(weights) + vector.astype(weights.dtype)
            return jax.jvp(gradient(total, params), (weights,), (step,))[1]

        return averaged(
            of_piece,
            loss,
            params,
            batch,
            microbatch_size=microbatch_size,
            precision=precision,
            axis_name=axis_name,
        )

    return product
