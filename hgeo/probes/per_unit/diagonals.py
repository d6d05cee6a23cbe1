"""Full diagonals by units, of all layers that the method applies to."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.params.layers import Layer
from hgeo.params.leaf_paths import LeafSlice
from hgeo.probes.per_unit.bottleneck import (
    Bottleneck,
    bottleneck_bytes,
    bottleneck_entries,
    bottleneck_operations,
    find_bottleneck,
    local_derivatives,
)
from hgeo.probes.per_unit.unit_product import (
    UnitProduct,
    find_unit_product,
    unit_column,
    unit_entries,
)
from hgeo.second_order.chunking import mapped
from hgeo.second_order.flops import operations
from hgeo.second_order.memory import ChunkSize, chunk_of
from hgeo.second_order.products import FORWARD, hessian_map
from hgeo.second_order.traced_loss import trace_loss

PyTree = Any

# Largest memory of the method by bottleneck, whose Jacobians grow with units times channels.
MOST_BYTES = 2 * 2**30


class UnitDiagonals:
    """The products by which layers enter a loss, and the layers' diagonals.

    Attributes:
      program: the loss, traced in the layers' leaves.
      leaves: the leaves' values.
    """

    def __init__(
        self,
        total: Callable[[PyTree], jax.Array],
        params: PyTree,
        layers: Mapping[str, Layer],
        way: str | None,
    ):
        """Traces the loss and looks for the product of each part of each layer.

        Args:
          total: the sum of the losses of some examples.
          params: its argument.
          layers: by name.
          way: the mode of Hessian-vector products; `None` if the loss has none.
        """
        self._layers, self._way = layers, way
        self.program, sources, self.leaves = trace_loss(total, params, layers)
        self._sources = sources
        # For each part its product, or why it has none.
        self._products: dict[str, list[UnitProduct | str]] = {
            name: [
                "it is a slice of a leaf"
                if isinstance(part, LeafSlice)
                else find_unit_product(self.program, source)
                for part, source in zip(layer.parts, sources[name], strict=True)
            ]
            for name, layer in layers.items()
        }

    def problem(self, name: str) -> str | None:
        """Why the method does not apply to a layer; `None` if it does."""
        if self._way is None:
            return "the loss has no gradient, which Hessian-vector products need"
        parts = self._layers[name].parts
        for part, product in zip(parts, self._products[name], strict=True):
            if isinstance(product, str):
                return product if len(parts) == 1 else f"{part}: {product}"
        return None

    def products(self, name: str) -> list[UnitProduct]:
        """The products of the parts of a layer without a problem."""
        return [product for product in self._products[name] if isinstance(product, UnitProduct)]

    def with_weights(self, weights: Mapping[str, jax.Array]) -> list[jax.Array]:
        """The leaves' values, with some layers' weights replaced by flat vectors."""
        leaves = list(self.leaves)
        for name, vector in weights.items():
            layer = self._layers[name]
            parts = zip(layer.parts, self._sources[name], layer.split(vector), strict=True)
            for part, source, values in parts:
                if isinstance(part, LeafSlice):
                    values = part.put(leaves[source], values)
                leaves[source] = values
        return leaves

    def cost(self, name: str) -> tuple[int, float]:
        """The number of Hessian-vector products for a layer, and the operations of its diagonal."""
        ways = [self._cheapest(product) for product in self.products(name)]
        return sum(way.num_products for way in ways), sum(way.operations for way in ways)

    def entries(
        self, name: str, chunk: int | ChunkSize, report: Callable[[Any], None] | None
    ) -> jax.Array:
        """The full diagonal of the sum of losses for a layer, of shape `(size,)`."""
        layer, parts, done = self._layers[name], [], 0
        for product, size in zip(self.products(name), layer.sizes, strict=True):
            add = None if report is None else lambda n, done=done, report=report: report(done + n)
            bottleneck = self._cheapest(product).bottleneck
            if bottleneck is None:
                entries = self._by_units(name, product, chunk, add)
            else:
                entries = self._by_bottleneck(name, product, bottleneck, chunk, add)
            parts.append(product.to_leaf(entries).astype(layer.dtype))
            done += size
        return jnp.concatenate(parts)

    def _by_units(self, name, product, chunk, report):
        sizes = product.sizes
        push, zeros = self._push(product.z)
        column = unit_column(product, push, zeros)
        first = lambda position: column(jnp.int32(0), position)
        together = chunk_of(chunk, name, first, jnp.arange(sizes.positions))
        by_unit = mapped(
            unit_entries(product, self._x(product), column, together),
            jnp.arange(sizes.groups * sizes.units),
            max(1, together // sizes.positions),
            report,
            sizes.inputs,
        )
        by_unit = by_unit.reshape(sizes.groups, sizes.units, sizes.inputs)
        return jnp.swapaxes(by_unit, 1, 2)

    def _by_bottleneck(self, name, product, bottleneck, chunk, report):
        push, zeros = self._push(bottleneck.variable)
        local = self._local(product, bottleneck)
        push_channel = lambda channel: push(zeros + channel.astype(zeros.dtype))
        together = chunk_of(chunk, name, push_channel, jnp.arange(bottleneck.sizes[2]))
        entries = bottleneck_entries(
            product, bottleneck, self._x(product), push, zeros, local, together, report
        )
        return entries[None]

    def _cheapest(self, product: UnitProduct) -> "_Way":
        """The cheaper of z itself and the best bottleneck behind it, if this fits into memory."""
        push, zeros = self._push(product.z)
        num_products = product.num_products
        direct = _Way(None, num_products, num_products * operations(push, zeros))
        # The derivatives of a bottleneck in z are forward derivatives.
        bottleneck = find_bottleneck(self.program, product) if self._way == FORWARD else None
        itemsize = zeros.dtype.itemsize
        if bottleneck is None or bottleneck_bytes(bottleneck, product, itemsize) > MOST_BYTES:
            return direct
        push, zeros = self._push(bottleneck.variable)
        local = operations(self._local(product, bottleneck), jnp.int32(0))
        total = bottleneck_operations(bottleneck, product, operations(push, zeros), local)
        by_bottleneck = _Way(bottleneck, bottleneck.sizes[1] * bottleneck.sizes[2], total)
        return by_bottleneck if by_bottleneck.operations < direct.operations else direct

    def _x(self, product: UnitProduct) -> jax.Array:
        return self.program.run(self.leaves)[product.equation.inputs[product.x]]

    def _push(self, variable: int) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
        """The function v -> (the Hessian in a variable) v, and zeros of its shape."""
        zeros = jnp.zeros_like(self.program.run(self.leaves)[variable])
        f = lambda tap: self.program.run(self.leaves, {variable: tap})[self.program.output]
        assert self._way is not None, "no layer is taken where there are no products"
        return hessian_map(f, zeros, self._way), zeros

    def _local(self, product: UnitProduct, bottleneck: Bottleneck):
        program, variable = self.program, bottleneck.variable
        values = program.run(self.leaves)
        zeros = jnp.zeros_like(values[product.z])
        h = lambda tap: program.run(self.leaves, {product.z: tap})[variable]
        f = lambda tap: program.run(self.leaves, {variable: tap})[program.output]
        adjoint = jax.grad(f)(jnp.zeros_like(values[variable]))
        return local_derivatives(product, bottleneck, h, adjoint, zeros)


class _Way(NamedTuple):
    """A method for the entries of a product, with its cost; `None` for no bottleneck."""

    bottleneck: Bottleneck | None
    num_products: int
    operations: float
