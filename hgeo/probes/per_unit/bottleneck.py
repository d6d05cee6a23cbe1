"""Full diagonals of wide layers by way of a narrow variable behind them, the bottleneck.

Let the loss depend on z = x·W through a variable h alone, h[e,s,:] a function of z[e,s,:]. Then

    M_u[e,s,s'] = Σ_{c,c'} J_u[e,s,c] G[e,s,c,s',c'] J_u[e,s',c'] + δ_ss' Σ_c h̄[e,s,c] K_u[e,s,c],

with G the Hessian in h, h̄ the gradient in h, J_u = ∂h/∂z_u and K_u = ∂²h/∂z_u². For each position,
G takes one Hessian-vector product for each channel of h, instead of one for each unit of z. A
feed-forward layer of four times the width takes a quarter of the products.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.probes.per_unit.independence import places
from hgeo.probes.per_unit.unit_product import UnitProduct, is_real
from hgeo.second_order.chunking import mapped
from hgeo.second_order.jaxpr import Program, active, reaching


class Bottleneck(NamedTuple):
    """A variable h, regarded as an array (E, S, C).

    Attributes:
      variable: the number of h.
      groups: the axes of h that hold independent examples, other positions, and channels.
      sizes: (E, S, C).
    """

    variable: int
    groups: tuple[tuple[int, ...], ...]
    sizes: tuple[int, int, int]

    def grouped(self, array: jax.Array) -> jax.Array:
        """An array of h's shape as (E, S, C)."""
        return jnp.transpose(array, sum(self.groups, ())).reshape(self.sizes)

    def ungrouped(self, array: jax.Array, like: jax.Array) -> jax.Array:
        """An array (E, S, C) in the shape of `like`, an array of h's shape."""
        order = sum(self.groups, ())
        whole = array.reshape([like.shape[axis] for axis in order])
        inverse = [order.index(axis) for axis in range(len(order))]
        return jnp.transpose(whole, inverse)


def find_bottleneck(program: Program, product: UnitProduct) -> Bottleneck | None:
    """The bottleneck with the fewest channels; `None` if none has fewer than there are units."""
    in_z = {axis: place for axis, place in product.places().items() if product.x_shape[axis] > 1}
    kept = {axis: places(program, product.z, place) for axis, place in in_z.items()}
    best, fewest = None, product.sizes.units
    if product.sizes.groups > 1:
        return None
    for variable in _candidates(program, product.z):
        where = {axis: kept[axis].get(variable) for axis in in_z}
        if None in where.values() or not is_real(program.avals[variable]):
            continue
        pick = lambda axes, where=where: tuple(where[a] for a in axes if a in where)
        examples, positions = pick(product.independent), pick(product.positions)
        shape = program.avals[variable].shape
        channels = tuple(a for a in range(len(shape)) if a not in (*examples, *positions))
        size = lambda axes, shape=shape: math.prod(shape[axis] for axis in axes)
        if size(channels) < fewest:
            fewest = size(channels)
            sizes = (size(examples), size(positions), fewest)
            best = Bottleneck(variable, (examples, positions, channels), sizes)
    return best


def _candidates(program: Program, start: int) -> list[int]:
    """The variables behind `start` through which all its influence on the loss passes."""
    pairs = active(program, reaching(program), [start])
    last: dict[int, int] = {}
    for k, (equation, free) in enumerate(pairs):
        last.update({equation.inputs[place]: k for place in free})
    live, candidates = {start}, []
    for k, (equation, _) in enumerate(pairs):
        live |= {v for v in equation.outputs if v in last}
        live -= {v for v in live if last[v] <= k}
        if len(live) == 1:
            candidates += [v for v in live if v not in candidates]
    return candidates


def bottleneck_operations(
    bottleneck: Bottleneck, product: UnitProduct, push: float, local: float
) -> float:
    """The operations that all entries take.

    Args:
      bottleneck: the variable h.
      product: where W enters.
      push: the operations of a Hessian-vector product in h.
      local: the operations of the derivatives of h in z for one unit.
    """
    examples, positions, channels = bottleneck.sizes
    units, inputs = product.sizes.units, product.sizes.inputs
    pairs = examples * positions * positions
    contraction = 2.0 * pairs * units * (channels * channels + channels + inputs)
    return positions * channels * push + units * local + contraction


def bottleneck_bytes(bottleneck: Bottleneck, product: UnitProduct, itemsize: int) -> int:
    """Bytes in memory at a time: J, and twice the columns of G of one position."""
    examples, positions, channels = bottleneck.sizes
    units = product.sizes.units
    jacobian = units * examples * positions * channels
    columns = examples * positions * channels * (channels + 2 * units // max(1, channels))
    return itemsize * (jacobian + 2 * columns)


def local_derivatives(
    product: UnitProduct,
    bottleneck: Bottleneck,
    h_of_tap: Callable[[jax.Array], jax.Array],
    adjoint: jax.Array,
    zeros: jax.Array,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """The function unit -> J_u as (E, S, C) and Σ_c h̄ K_u as (E, S).

    Args:
      product: where W enters.
      bottleneck: the variable h.
      h_of_tap: h as a function of an array that is added to z.
      adjoint: h̄.
      zeros: of z's shape.
    """
    sizes = product.sizes
    shape = (sizes.groups, sizes.examples, sizes.positions, sizes.units)
    slope = jax.grad(lambda tap: jnp.vdot(adjoint, h_of_tap(tap)))

    def derivatives(unit):
        # All examples and positions at once: they do not enter each other's derivatives.
        direction = zeros + product.tap(jnp.zeros(shape, zeros.dtype).at[..., unit].set(1.0))
        moved = jax.jvp(h_of_tap, (zeros,), (direction,))[1]
        curved = product.by_unit(jax.jvp(slope, (zeros,), (direction,))[1])
        return bottleneck.grouped(moved), jax.lax.dynamic_index_in_dim(curved[0], unit, 2, False)

    return derivatives


def bottleneck_entries(
    product: UnitProduct,
    bottleneck: Bottleneck,
    x: jax.Array,
    push: Callable[[jax.Array], jax.Array],
    zeros: jax.Array,
    local: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    chunk_size: int,
    report: Callable[[Any], None] | None,
) -> jax.Array:
    """Computes all diagonal entries of W, of shape (I, U).

    Args:
      product: where W enters.
      bottleneck: the variable h.
      x: the values of x.
      push: v -> the Hessian in h times v.
      zeros: of h's shape and dtype.
      local: from `local_derivatives`.
      chunk_size: Hessian-vector products that are computed together.
      report: called with the number of entries done.
    """
    _, positions, channels = bottleneck.sizes
    units, inputs = product.sizes.units, product.sizes.inputs
    x_ESI = product.inputs(x)[0]
    jacobian_UESC, curve_UES = mapped(local, jnp.arange(units), chunk_size)
    jacobian_ESCU = jnp.moveaxis(jacobian_UESC, 0, -1)

    def add_position(total_IU, position):
        def column(channel):
            direction = jnp.zeros(bottleneck.sizes, zeros.dtype).at[:, position, channel].set(1.0)
            return bottleneck.grouped(push(zeros + bottleneck.ungrouped(direction, zeros)))

        columns_CEST = mapped(column, jnp.arange(channels), chunk_size)
        right = jnp.einsum("cesd,esdu->escu", columns_CEST, jacobian_ESCU)
        left_ECU = jax.lax.dynamic_index_in_dim(jacobian_ESCU, position, 1, keepdims=False)
        curvature_ESU = jnp.sum(right * left_ECU[:, None], axis=2)
        curve_EU = jax.lax.dynamic_index_in_dim(curve_UES, position, 2, keepdims=False).T
        curvature_ESU = curvature_ESU.at[:, position].add(curve_EU)
        mixed = jnp.einsum("esi,esu->eiu", x_ESI, curvature_ESU.astype(x_ESI.dtype))
        x_EI = jax.lax.dynamic_index_in_dim(x_ESI, position, 1, keepdims=False)
        total_IU = total_IU + jnp.sum(mixed * x_EI[..., None], axis=0)
        if report is not None:
            total_IU, done = jax.lax.optimization_barrier((total_IU, position + 1))
            jax.debug.callback(report, done * (inputs * units) // positions)
        return total_IU, None

    start = jnp.zeros((inputs, units), x_ESI.dtype) + jnp.zeros_like(x_ESI.ravel()[0])
    return jax.lax.scan(add_position, start, jnp.arange(positions))[0]
