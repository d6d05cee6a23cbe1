"""The exact Hessian diagonal of whole layers, by the cheapest exact method for each."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.batching import averaged, first_piece
from hgeo.errors import NoPreconditionerError
from hgeo.losses import Loss
from hgeo.params.checks import check_layers
from hgeo.params.coordinates import Coordinates
from hgeo.params.layers import Layer
from hgeo.params.leaf_paths import leaves_by_path
from hgeo.params.static_leaves import held
from hgeo.probes.per_unit.diagonals import UnitDiagonals
from hgeo.second_order.chunking import mapped
from hgeo.second_order.explicit_axes import in_automatic_axes
from hgeo.second_order.flops import operations
from hgeo.second_order.memory import checked_chunk_size, chunk_of, one_at_a_time
from hgeo.second_order.modes import MODES, ModeChoice, check_mode, choose, choose_product
from hgeo.second_order.products import FORWARD

PyTree = Any
Progress = Callable[[str, int, int], None]

METHODS = ("auto", "units", "coordinates")


class DiagonalCost(NamedTuple):
    """The method for a layer's full diagonal, and its cost.

    Attributes:
      method: a scalar str, `"units"` (Hessian-vector products in the layer's outputs) or
        `"coordinates"` (one entry at a time).
      reason: why this method.
      sweeps: products or entries that are computed for each piece of the batch.
      gradients: their operations, counted from the program, over those of one gradient of the same
        loss. If a loop of unknown length allows no gradient, over those of one directional
        derivative.

    Example:
      >>> hgeo.DiagonalCost("units", "examples are independent", 128, 250.0).sweeps
      128
    """

    method: str
    reason: str
    sweeps: int
    gradients: float


@in_automatic_axes
def full_diagonal(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layers: Mapping[str, Layer],
    *,
    method: str = "auto",
    mode: str = "auto",
    chunk_size: int | str = "auto",
    memory_budget: int | None = None,
    max_gradients: float = 20_000.0,
    progress: Progress | None = None,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
) -> "OrderedDict[str, jax.Array]":
    """Computes all entries of each layer's Hessian diagonal, exactly.

        H_ii = ∂²L/∂w_i² for every i,   L = Σ total / Σ weight over the batch

    Method "units" applies where a weight matrix W enters the loss in one product z = x·W, and the
    program proves that examples are independent. For each unit (column of W) it takes one
    Hessian-vector product in z for each of the positions that depend on each other (a sequence's
    length; 1 for a plain network). Method "coordinates" computes each entry as `sampled_diagonal`
    does. "auto" takes the cheaper one for each layer; `full_diagonal_cost` tells which, why, and
    its cost.

    Under `jit`, params and batch may lie in shards by any `NamedSharding`.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree.
      batch: any pytree; with `microbatch_size`, arrays whose leading axis counts the examples.
      layers: what `find_layers` gives, or any part of it.
      method: `"auto"`, `"units"` or `"coordinates"`.
      mode: for the method "coordinates", as in `sampled_diagonal`.
      chunk_size: entries or products that are computed together, as in `sampled_diagonal`.
      memory_budget: the same.
      max_gradients: the largest allowed cost of all layers together, in gradients of the loss.
      progress: called by the running program as `progress(layer, entries done, entries)`, for each
        piece of the batch and on each device.
      microbatch_size: examples that are computed together; `None`: the whole batch.
      precision: as in `sampled_diagonal`.
      axis_name: the same.

    Returns:
      An `OrderedDict` of arrays of shape `(layer.size,)` by layer name, in the order of
      `layer.ravel(params)`, in the layer's dtype.

    Raises:
      ValueError: a cost above `max_gradients`; `method="units"` for a layer that it does not apply
        to; and as `sampled_diagonal`.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.ones((3, 2))}
      >>> layers = hgeo.find_layers(params)
      >>> print(hgeo.full_diagonal(loss, params, jnp.eye(3), layers)["kernel"])
      [0.33333334 0.33333334 0.33333334 0.33333334 0.33333334 0.33333334]

    Reference:
      Pearlmutter. Fast Exact Multiplication by the Hessian. Neural Computation, 1994.
    """
    options = {"microbatch_size": microbatch_size, "axis_name": axis_name}
    loss, params, batch = held(loss, params, batch)
    chunk = checked_chunk_size(chunk_size, memory_budget)
    plan = _plan_of(loss, params, batch, layers, method, mode, options)
    costs = plan.costs
    chunk = chunk if plan.choice.vmapped else one_at_a_time(chunk)
    total_cost = sum(cost.gradients for cost in costs.values())
    if total_cost > max_gradients:
        each = ", ".join(f"{name} {cost.gradients:,.0f}" for name, cost in costs.items())
        raise ValueError(
            f"the full diagonal costs as much as {total_cost:,.0f} gradients of the loss ({each}), "
            f"more than max_gradients={max_gradients:,.0f}; raise max_gradients, or take a smaller "
            "batch or fewer layers"
        )

    def entries(total, params, piece):
        reports = {name: _report(progress, name, layer.size) for name, layer in layers.items()}
        taken = lambda way: {
            name: layer for name, layer in layers.items() if costs[name].method == way
        }
        by_unit = UnitDiagonals(total, params, taken("units"), plan.products)
        diagonals = {name: by_unit.entries(name, chunk, reports[name]) for name in taken("units")}
        if probe_points := _all_coordinates(taken("coordinates")):
            forms = MODES[plan.choice.mode](total, params, probe_points)
            for name, form in forms.items():
                points = probe_points[name].points
                size = chunk_of(chunk, name, form, points)
                diagonals[name] = mapped(form, points, size, reports[name])
        return [diagonals[name] for name in layers]

    values = averaged(entries, loss, params, batch, precision=precision, **options)
    return OrderedDict(zip(layers, values, strict=True))


@in_automatic_axes
def full_diagonal_cost(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layers: Mapping[str, Layer],
    *,
    method: str = "auto",
    mode: str = "auto",
    microbatch_size: int | None = None,
    axis_name: str | None = None,
) -> "OrderedDict[str, DiagonalCost]":
    """Tells which method `full_diagonal` takes for each layer, why, and its cost.

        cost = sweeps × (operations of a sweep) / (operations of one gradient)

    It traces the loss and computes no entries. A matrix product or convolution counts its
    multiplications and additions; any other operation counts the elements of its outputs.

    Args:
      loss: as in `full_diagonal`.
      params: any pytree of arrays or of `jax.ShapeDtypeStruct`, of any shapes.
      batch: the same.
      layers: what `find_layers` gives, or any part of it.
      method: as in `full_diagonal`.
      mode: the same.
      microbatch_size: the same.
      axis_name: the same; call the function where that axis is bound.

    Returns:
      An `OrderedDict` of `DiagonalCost` by layer name.

    Raises:
      ValueError: an unknown method, `method="units"` for a layer that it does not apply to, no
        layers, and as `choose_mode`.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.ones((30, 2))}
      >>> costs = hgeo.full_diagonal_cost(loss, params, jnp.eye(30), hgeo.find_layers(params))
      >>> costs["kernel"].method, costs["kernel"].sweeps
      ('units', 2)
    """
    options = {"microbatch_size": microbatch_size, "axis_name": axis_name}
    return _plan_of(*held(loss, params, batch), layers, method, mode, options).costs


class _Plan(NamedTuple):
    """How the diagonals are computed.

    Attributes:
      costs: by layer.
      choice: the mode of single entries.
      products: the mode of Hessian-vector products; `None` if there is none.
    """

    costs: "OrderedDict[str, DiagonalCost]"
    choice: ModeChoice
    products: str | None


def _plan_of(loss, params, batch, layers, method, mode, options) -> _Plan:
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, not {method!r}")
    check_mode(mode)
    if not layers:
        raise ValueError("no layers were given; give at least one")
    check_layers(layers)

    def plan(total, params, piece):
        probe_points = _all_coordinates(layers)
        choice = choose(mode, total, params, probe_points)
        way = _products(choice, total, params, probe_points)
        forms = MODES[choice.mode](total, params, probe_points)
        costs = _costs(total, params, layers, method, forms, way)
        return _Plan(costs, choice, way)

    return first_piece(plan, loss, params, batch, **options)


def _products(choice, total, params, probe_points) -> str | None:
    if choice.mode in ("adjoint_weighted", FORWARD):
        return FORWARD
    try:
        return choose_product(total, params, probe_points).mode
    except ValueError:  # a loop of unknown length has no gradient
        return None


def _costs(total, params, layers, method, forms, way):
    parts = UnitDiagonals(total, params, layers, way)
    unit = _gradient_operations(total, params, exists=way is not None)
    costs = OrderedDict()
    for name, layer in layers.items():
        each = operations(forms[name], jax.ShapeDtypeStruct((), jnp.int32))
        by_entry = DiagonalCost("coordinates", "", layer.size, layer.size * each / unit)
        problem = parts.problem(name)
        if problem is not None:
            if method == "units":
                raise ValueError(
                    f"method='units' does not apply to layer {name!r}: {problem}; "
                    "take method='auto' or 'coordinates'"
                )
            costs[name] = by_entry._replace(reason=f"units do not apply: {problem}")
            continue
        sweeps, arithmetic = parts.cost(name)
        by_unit = DiagonalCost("units", "it enters by one product", sweeps, arithmetic / unit)
        cheaper = by_unit if by_unit.gradients < by_entry.gradients else by_entry
        if method == "auto" and cheaper is by_entry:
            costs[name] = by_entry._replace(
                reason=f"units would cost {by_unit.gradients:,.0f} gradients"
            )
        else:
            costs[name] = by_entry if method == "coordinates" else by_unit
    return costs


def _all_coordinates(layers: Mapping[str, Layer]) -> dict[str, Coordinates]:
    return {
        name: Coordinates(layer, jnp.arange(layer.size, dtype=jnp.int32))
        for name, layer in layers.items()
    }


def _gradient_operations(total, params, exists):
    """Operations of one gradient, or of one directional derivative if there is no gradient."""
    leaves, treedef = jax.tree.flatten(params)
    free = {
        path: k
        for k, (path, leaf) in enumerate(leaves_by_path(params).items())
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }

    def total_of_free(moved):
        full = list(leaves)
        for k, leaf in zip(free.values(), moved, strict=True):
            full[k] = leaf
        return total(jax.tree.unflatten(treedef, full))

    forward = lambda moved: jax.jvp(total_of_free, [moved], [moved])
    derivative = jax.grad(total_of_free) if exists else forward
    while True:
        try:
            return operations(derivative, [leaves[k] for k in free.values()])
        except NoPreconditionerError as error:  # the loss has no preconditioner for this leaf
            del free[error.path]


def _report(progress: Progress | None, name: str, size: int) -> Callable[[Any], None] | None:
    if progress is None:
        return None
    return lambda done: progress(name, min(int(done), size), size)
