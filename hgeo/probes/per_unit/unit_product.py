"""The full diagonal of a matrix W from the curvature in z = x·W, unit by unit.

Where W enters the loss in one product z = x·W, and examples e are independent of each other,

    ∂²L/∂W[i,u]² = Σ_e Σ_{s,s'} x[e,s,i] M_u[e,s,s'] x[e,s',i],   M_u = ∂²L/∂z[e,s,u]∂z[e,s',u],

with s the positions that are not independent. One Hessian-vector product of the loss in z gives
column s of M_u for all examples. So S products give all entries of a unit.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.probes.per_unit.independence import mixing
from hgeo.second_order.chunking import mapped
from hgeo.second_order.jaxpr import FLAT, Equation, Program, moving, reaching
from hgeo.second_order.sweep.placement import PLACEMENTS

# Operations that change the shape, order or place of W's entries, and no entry.
_RESHAPES = {"reshape", "squeeze", "transpose", "convert_element_type", "copy", "copy_p"}
_RESHAPES |= PLACEMENTS


class Sizes(NamedTuple):
    """The sizes N, E, S, U and I; see `UnitProduct`."""

    groups: int
    examples: int
    positions: int
    units: int
    inputs: int


@dataclasses.dataclass(frozen=True)
class UnitProduct:
    """A product z = x·W, the only equation by which a leaf enters a program.

    Its arrays are regarded as x (N, E, S, I), z (N, E, S, U) and W (N, I, U), with N the batch axes
    of the product (1 without batch axes), E the independent examples, S the other positions, I the
    inputs that are summed over and U the units.

    Attributes:
      equation: the `dot_general`.
      x: which of its operands is x, 0 or 1.
      path: the equations from the leaf to W, in order.
      shapes: the shapes of the variables along the path, the leaf's first.
      independent: axes of x that are proved to hold independent examples.
      positions: the other axes of x that are not summed over.
      x_shape: the shape of x.
      z_shape: the shape of z.
    """

    equation: Equation
    x: int
    path: tuple[Equation, ...]
    shapes: tuple[tuple[int, ...], ...]
    independent: tuple[int, ...]
    positions: tuple[int, ...]
    x_shape: tuple[int, ...]
    z_shape: tuple[int, ...]

    @property
    def z(self) -> int:
        """The variable z."""
        return self.equation.outputs[0]

    @property
    def sizes(self) -> "Sizes":
        """The sizes of the grouped axes."""
        contract, batch = (pair[self.x] for pair in self.equation.params["dimension_numbers"])
        size = lambda axes: math.prod(self.x_shape[axis] for axis in axes)
        groups, examples, positions = map(size, (batch, self.independent, self.positions))
        units = math.prod(self.z_shape) // (groups * examples * positions)
        return Sizes(groups, examples, positions, units, size(contract))

    @property
    def num_products(self) -> int:
        """The number of Hessian-vector products for all entries."""
        return self.sizes.groups * self.sizes.units * self.sizes.positions

    def inputs(self, x: jax.Array) -> jax.Array:
        """The values of x as (N, E, S, I)."""
        contract, batch = (pair[self.x] for pair in self.equation.params["dimension_numbers"])
        groups = (batch, self.independent, self.positions, contract)
        return _grouped(x, groups)

    def tap(self, by_unit: jax.Array) -> jax.Array:
        """An array (N, E, S, U) in the shape of z."""
        groups = self._z_groups()
        order = [axis for group in groups for axis in group]
        whole = by_unit.reshape([self.z_shape[axis] for axis in order])
        return jnp.transpose(whole, _inverse(order))

    def by_unit(self, z: jax.Array) -> jax.Array:
        """An array of z's shape as (N, E, S, U)."""
        return _grouped(z, self._z_groups())

    def to_leaf(self, entries: jax.Array) -> jax.Array:
        """Entries (N, I, U) of W in the leaf's order, flat."""
        contract, batch = (pair[1 - self.x] for pair in self.equation.params["dimension_numbers"])
        shape = self.shapes[-1]
        free = [a for a in range(len(shape)) if a not in contract and a not in batch]
        order = [*batch, *contract, *free]
        entries = entries.reshape([shape[axis] for axis in order])
        entries = jnp.transpose(entries, _inverse(order))
        for equation, before in reversed(list(zip(self.path, self.shapes, strict=False))):
            if equation.name == "transpose":
                entries = jnp.transpose(entries, _inverse(equation.params["permutation"]))
            entries = entries.reshape(before)
        return entries.ravel()

    def places(self) -> dict[int, int]:
        """For each axis of x that isn't summed over or batched, its place in z."""
        contract, batch = self.equation.params["dimension_numbers"]
        free = [a for a in range(len(self.x_shape)) if a not in (*contract[self.x], *batch[self.x])]
        first = len(batch[0])
        start = first + (len(self.z_shape) - first - len(free) if self.x == 1 else 0)
        return {axis: start + k for k, axis in enumerate(free)}

    def _z_groups(self):
        places, batched = self.places(), range(len(self.equation.params["dimension_numbers"][1][0]))
        examples, positions = (
            [places[axis] for axis in axes] for axes in (self.independent, self.positions)
        )
        taken = {*batched, *places.values()}
        units = [axis for axis in range(len(self.z_shape)) if axis not in taken]
        return batched, examples, positions, units


def find_unit_product(program: Program, leaf: int) -> UnitProduct | str:
    """The only product by which a leaf enters a program, or why there is none.

    Args:
      program: of the loss.
      leaf: the variable that holds the leaf.
    """
    needed, moved = reaching(program), moving(program, [leaf])
    variable, path = leaf, []
    shapes = [tuple(program.avals[leaf].shape)]
    while True:
        uses = [
            (equation, k)
            for equation in program.equations
            if equation.name not in FLAT and needed.intersection(equation.outputs)
            for k, v in enumerate(equation.inputs)
            if v == variable
        ]
        if len(uses) != 1:
            return f"it enters the loss {len(uses)} times"
        equation, place = uses[0]
        if equation.name == "dot_general":
            break
        if not _passes(equation, place, shapes[-1], moved):
            return f"it enters by {equation.name!r}, not by one product"
        path.append(equation)
        variable = equation.outputs[0]
        shapes.append(tuple(equation.avals[0].shape))

    if not is_real(equation.avals[0]):
        return "its product is complex"
    x = 1 - place
    shape = tuple(program.avals[equation.inputs[x]].shape)
    z_shape = tuple(equation.avals[0].shape)
    product = UnitProduct(equation, x, tuple(path), tuple(shapes), (), (), shape, z_shape)
    places = product.places()
    mixed = {axis: mixing(program, product.z, place) for axis, place in places.items()}
    return dataclasses.replace(
        product,
        independent=tuple(axis for axis in places if mixed[axis] is None),
        positions=tuple(axis for axis in places if mixed[axis] is not None),
    )


def is_real(aval: Any) -> bool:
    """Whether an array is real: the curvature in a complex array is no complex matrix."""
    return jnp.issubdtype(aval.dtype, jnp.floating)


def _passes(equation: Equation, place: int, shape: tuple[int, ...], moved: set[int]) -> bool:
    """Whether each entry of the input at `place` is an entry of the output, with slope 1."""
    if equation.name in ("add", "add_any", "sub"):
        others = [v for k, v in enumerate(equation.inputs) if k != place]
        return place == 0 and equation.avals[0].shape == shape and not moved.intersection(others)
    if equation.name == "reshape" and equation.params["dimensions"] is not None:
        return False
    return equation.name in _RESHAPES


def unit_column(
    product: UnitProduct, push: Callable[[jax.Array], jax.Array], zeros: jax.Array
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The function (unit, s) -> column s of M for that unit: (E, S).

    Args:
      product: where W enters.
      push: v -> (the Hessian of the loss in z) v.
      zeros: of z's shape and dtype.
    """
    sizes = product.sizes
    shape = (sizes.groups, sizes.examples, sizes.positions, sizes.units)

    def column(unit, position):
        group, unit = unit // sizes.units, unit % sizes.units
        direction = jnp.zeros(shape, zeros.dtype).at[group, :, position, unit].set(1.0)
        pushed = product.by_unit(push(zeros + product.tap(direction)))
        pushed = jax.lax.dynamic_index_in_dim(pushed, group, 0, keepdims=False)
        return jax.lax.dynamic_index_in_dim(pushed, unit, 2, keepdims=False)

    return column


def unit_entries(
    product: UnitProduct,
    x: jax.Array,
    column: Callable[[jax.Array, jax.Array], jax.Array],
    chunk_size: int,
) -> Callable[[jax.Array], jax.Array]:
    """The function unit -> the diagonal entries of its weights: (I,).

    Args:
      product: where W enters.
      x: the values of x.
      column: from `unit_column`.
      chunk_size: columns that are computed together.
    """
    inputs, positions = product.inputs(x), jnp.arange(product.sizes.positions)

    def entries(unit):
        column_at = lambda position: column(unit, position)
        columns = mapped(column_at, positions, chunk_size)
        group = unit // product.sizes.units
        x_ESI = jax.lax.dynamic_index_in_dim(inputs, group, 0, keepdims=False)
        mixed = jnp.einsum("tes,esi->eti", columns.astype(x_ESI.dtype), x_ESI)
        return jnp.sum(jnp.sum(mixed * x_ESI, axis=1), axis=0)

    return entries


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(list(order).index(axis) for axis in range(len(order)))


def _grouped(array: jax.Array, groups: Any) -> jax.Array:
    order = [axis for group in groups for axis in group]
    sizes = [math.prod(array.shape[axis] for axis in group) for group in groups]
    return jnp.transpose(array, order).reshape(sizes)
