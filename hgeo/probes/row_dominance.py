"""The off-diagonal part of sampled rows of the Hessian, relative to the diagonal entry."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.losses import Loss
from hgeo.params.checks import check_along
from hgeo.params.coordinates import Coordinates
from hgeo.params.layers import Layer
from hgeo.params.static_leaves import held
from hgeo.probes.hvp import hessian_product, together
from hgeo.second_order.chunking import mapped
from hgeo.second_order.explicit_axes import in_automatic_axes
from hgeo.second_order.memory import checked_chunk_size, chunk_of
from hgeo.second_order.summation import total

PyTree = Any


@in_automatic_axes
def row_dominance(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    coordinates: Mapping[str, Coordinates],
    *,
    across: Mapping[str, Layer] | None = None,
    chunk_size: int | str = "auto",
    memory_budget: int | None = None,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
) -> "OrderedDict[str, jax.Array]":
    """Computes how much of each sampled row of the Hessian lies off its diagonal.

        r_diag(i) = sqrt(Σ_{j≠i} H_ij²) / |H_ii|

    It is 0 for a diagonal matrix, and sqrt(n − 1) for a constant matrix of n rows. Each row is
    exact and takes one Hessian-vector product: `jax.jvp` over `jax.grad`, or `jax.grad` over
    `jax.grad` if a `custom_vjp` function has no forward derivative.

    Under `jit`, params and batch may lie in shards by any `NamedSharding`.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree.
      batch: any pytree; with `microbatch_size`, arrays whose leading axis counts the examples.
      coordinates: what `sample_coordinates` gives, or any part of it.
      across: the layers that each row runs over, `coordinates`' layers among them; `None`: a row
        runs over its coordinate's layer.
      chunk_size: rows that are computed together, as in `sampled_diagonal`.
      memory_budget: the same.
      microbatch_size: examples that are computed together; `None`: the whole batch.
      precision: as in `sampled_diagonal`.
      axis_name: the same; the rows are summed over the devices.

    Returns:
      An `OrderedDict` of arrays of shape `(K,)` by layer name, in the layer's dtype, without unit.
      A diagonal entry of zero gives inf. A row of zeros gives NaN, and so does a traced coordinate
      outside its layer.

    Raises:
      ValueError: a layer of `coordinates` that is not among `across`, and as `sampled_diagonal`.

    Example:
      >>> loss = lambda params, batch: 0.5 * jnp.sum(params["kernel"]) ** 2
      >>> params = {"kernel": jnp.ones((2, 5))}
      >>> coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 4, jax.random.key(0))
      >>> print(hgeo.row_dominance(loss, params, None, coordinates)["kernel"])
      [3. 3. 3. 3.]

    Reference:
      Jiang, Malik, Li (2022), section on the diagonal dominance of the loss Hessian.
    """
    given = checked_chunk_size(chunk_size, memory_budget)
    if not coordinates:
        raise ValueError("no coordinates were given; give those of at least one layer")
    check_along(coordinates)
    loss, params, batch = held(loss, params, batch)
    options = {
        "microbatch_size": microbatch_size,
        "precision": precision,
        "axis_name": axis_name,
    }
    shared = None
    if across is not None:
        missing = [name for name, c in coordinates.items() if across.get(name) != c.layer]
        if missing:
            raise ValueError(
                f"across names {list(across)}, but not the coordinates' layers {missing}; add them"
            )
        shared = together(across)
        product = hessian_product(loss, params, batch, shared, **options)

    results, starts = OrderedDict(), _starts(across or {})
    for name, chosen in coordinates.items():
        layer = chosen.layer if shared is None else shared
        if shared is None:
            product = hessian_product(loss, params, batch, layer, **options)
        start = starts.get(name, 0)

        def dominance(index, layer=layer, product=product, start=start):
            place = start + index
            row = product.times(jnp.zeros(layer.size, layer.dtype).at[place].set(1.0))
            rest = row.at[place].set(0.0)
            # Scaled, since squares of small float32 entries underflow, and of large ones overflow.
            scale = jnp.max(jnp.abs(rest))
            scale = jnp.where(scale > 0, scale, 1.0)
            squares = sum(total(part**2) for part in layer.split(rest / scale))
            value = scale * jnp.sqrt(squares) / jnp.abs(row[place])
            return value.astype(layer.dtype)

        chunk = product.chunk(given)
        size = chunk_of(chunk, name, dominance, chosen.indices)
        values = mapped(dominance, chosen.indices, size)
        results[name] = jnp.where(chosen.inside(), values, jnp.nan)
    return results


def _starts(layers: Mapping[str, Layer]) -> dict[str, int]:
    starts, start = {}, 0
    for name, layer in layers.items():
        starts[name] = start
        start += layer.size
    return starts
