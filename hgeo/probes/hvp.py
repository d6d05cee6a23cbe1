"""Hessian-vector products of one layer, or of several treated as one."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.batching import averaged, divided, first_piece, matmul_precision
from hgeo.losses import Loss, as_weighted, over_devices
from hgeo.params.checks import check_layers
from hgeo.params.directions import Directions
from hgeo.params.layers import Layer
from hgeo.params.leaf_paths import overlap
from hgeo.second_order.memory import ChunkSize, one_at_a_time
from hgeo.second_order.modes import ModeChoice, choose_product
from hgeo.second_order.products import hessian_map, hessian_times

PyTree = Any


def together(layers: Layer | Mapping[str, Layer]) -> Layer:
    """One layer with the weights of all the given layers, in order.

    Raises:
      ValueError: no layers, or two layers that share weights.
    """
    if isinstance(layers, Layer):
        return layers
    check_layers(layers)
    if not layers:
        raise ValueError("no layers were given; give at least one")
    parts = [part for layer in layers.values() for part in layer.parts]
    twice = sorted(
        {str(first) for first, other in itertools.combinations(parts, 2) if overlap(first, other)}
    )
    if twice:
        raise ValueError(
            f"layers that are probed together may not share weights, but these share {twice}"
        )
    return Layer(
        " + ".join(layers),
        tuple(parts),
        tuple(shape for layer in layers.values() for shape in layer.shapes),
        tuple(dtype for layer in layers.values() for dtype in layer.dtypes),
    )


class HessianProduct(NamedTuple):
    """Products with a layer's diagonal block of the mean loss's Hessian.

    Attributes:
      times: v -> Hv; may be vmapped if `choice.vmapped`.
      choice: the mode, and why.
    """

    times: Callable[[jax.Array], jax.Array]
    choice: ModeChoice

    def chunk(self, chunk_size: int | ChunkSize) -> int | ChunkSize:
        """The chunk size if `times` may be vmapped, else chunks of one product."""
        return chunk_size if self.choice.vmapped else one_at_a_time(chunk_size)


def hessian_product(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layer: Layer,
    *,
    microbatch_size: int | None,
    precision: str | None,
    axis_name: str | None,
) -> HessianProduct:
    """The function v -> Hv for a layer's diagonal block of the mean loss's Hessian.

    It is `jax.jvp` over `jax.grad`, or `jax.grad` over `jax.grad` if a function of the loss has no
    forward derivative. Without microbatches it is linearised once.

    Raises:
      ValueError: a loss that is not scalar or has no derivative of its gradient.
    """
    check = {layer.name: Directions(layer, jnp.zeros((1, layer.size), layer.dtype))}
    loss_of_weights = lambda total, params: lambda weights: total(layer.replace(params, weights))

    if microbatch_size is None:
        params = over_devices(params, axis_name)
        total = lambda params: jnp.asarray(as_weighted(loss, params, batch).total)
        weights = layer.ravel(params)
        weight = jnp.asarray(as_weighted(loss, params, batch).weight)
        with matmul_precision(precision):
            choice = choose_product(total, params, check)
            push = hessian_map(loss_of_weights(total, params), weights, choice.mode)
        as_step = lambda vector: jnp.zeros_like(weights) + vector.astype(weights.dtype)
        times = lambda vector: divided(push(as_step(vector)), weight, axis_name)
        return HessianProduct(times, choice)

    options = {"microbatch_size": microbatch_size, "axis_name": axis_name}
    choose_from_first = lambda total, params, piece: choose_product(total, params, check)
    choice = first_piece(choose_from_first, loss, params, batch, **options)

    def times_in_pieces(vector):
        def times_of_piece(total, params, piece):
            weights = layer.ravel(params)
            step = jnp.zeros_like(weights) + vector.astype(weights.dtype)
            return hessian_times(loss_of_weights(total, params), weights, step, choice.mode)

        return averaged(times_of_piece, loss, params, batch, precision=precision, **options)

    return HessianProduct(times_in_pieces, choice)
