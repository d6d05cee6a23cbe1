"""Hutchinson's estimate of a diagonal, with signs of layer outputs where that lowers the noise."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.params.directions import Directions
from hgeo.params.layers import Layer
from hgeo.probes.per_unit.diagonals import UnitDiagonals
from hgeo.probes.per_unit.unit_product import UnitProduct
from hgeo.second_order.modes import choose_product
from hgeo.second_order.products import hessian_map

PyTree = Any


def hutchinson_diagonal(
    total: Callable[[PyTree], jax.Array],
    params: PyTree,
    layers: Mapping[str, Layer],
    common: jax.Array,
    own: jax.Array,
    num_samples: int,
) -> list[jax.Array]:
    """Samples of each layer's diagonal: for each layer an array `(num_samples, size)`.

    Args:
      total: the sum of the losses of some examples.
      params: its argument.
      layers: by name; they share no weights.
      common: key of the weights' signs, the same for all pieces of the batch.
      own: key of the outputs' signs, different for each piece of the batch.
      num_samples: the number of sign vectors.
    """
    check = {
        name: Directions(layer, jnp.zeros((1, layer.size), layer.dtype))
        for name, layer in layers.items()
    }
    way = choose_product(total, params, check).mode
    diagonals = UnitDiagonals(total, params, layers, way)
    program, leaves = diagonals.program, diagonals.leaves
    by_unit = [name for name in layers if diagonals.problem(name) is None]
    by_weight = [name for name in layers if name not in by_unit]
    values = program.run(leaves)
    products = {name: diagonals.products(name) for name in by_unit}
    taps = {name: [jnp.zeros_like(values[p.z]) for p in products[name]] for name in by_unit}
    weights = {name: layers[name].ravel(params) for name in by_weight}

    def f(point):
        taps, weights = point
        moved = diagonals.with_weights(weights)
        tapped = {
            product.z: tap
            for name in by_unit
            for product, tap in zip(products[name], taps[name], strict=True)
        }
        return program.run(moved, tapped)[program.output]

    push = hessian_map(f, (taps, weights), way)

    def sample(number):
        keys = [jax.random.fold_in(key, number) for key in (own, common)]
        drawn = [_signs(key, like) for key, like in zip(keys, (taps, weights), strict=True)]
        pushed = push(tuple(drawn))
        samples = {name: v * hv for name, v, hv in _zipped(drawn[1], pushed[1])}
        for name, v, hv in _zipped(drawn[0], pushed[0]):
            parts = zip(products[name], v, hv, strict=True)
            samples[name] = jnp.concatenate(
                [_pulled(p, values[p.equation.inputs[p.x]], a, b) for p, a, b in parts]
            )
        return [samples[name].astype(layers[name].dtype) for name in layers]

    return jax.lax.map(sample, jnp.arange(num_samples))


def _pulled(product: UnitProduct, x: jax.Array, signs: jax.Array, pushed: jax.Array) -> jax.Array:
    """A sample of a leaf's diagonal, flat, from the signs and products in z."""
    x, v, hv = product.inputs(x), product.by_unit(signs), product.by_unit(pushed)
    if product.sizes.positions == 1:
        entries = jnp.einsum("nei,neu->niu", x[:, :, 0] ** 2, (v * hv)[:, :, 0])
        return product.to_leaf(entries)

    def add(total, example):
        x, v, hv = example
        first, second = (jnp.einsum("nsi,nsu->niu", x, side) for side in (v, hv))
        return total + first * second, None

    zero = jnp.zeros_like(jnp.einsum("nsi,nsu->niu", x[:, 0], v[:, 0]))
    each = tuple(jnp.moveaxis(side, 1, 0) for side in (x, v, hv))
    return product.to_leaf(jax.lax.scan(add, zero, each)[0])


def _signs(key: jax.Array, like: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(like)
    # 0 * leaf makes the signs vary over the leaf's axes under shard_map.
    drawn = [
        jax.random.rademacher(jax.random.fold_in(key, k), leaf.shape, leaf.dtype) + 0 * leaf
        for k, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, drawn)


def _zipped(first: Mapping[str, Any], second: Mapping[str, Any]):
    return ((name, first[name], second[name]) for name in first)
