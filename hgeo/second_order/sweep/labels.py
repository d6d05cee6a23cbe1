"""Plans equations that pick one entry of each token, as cross-entropy picks a label's logit."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.one_hot import dense, scaled
from hgeo.second_order.summation import sum_of
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import Tangents


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Whether the equation picks one entry along the last axis, at constant indices."""
    return free == (0,) and picks_labels(equation, builder.rules.avals)


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one equation; for a wide product, ż_y = ẋ·W[:, y] reads its source alone."""
    out, source = equation.outputs[0], equation.inputs[0]
    root, whole = builder.views[source]
    indices = builder.context.values[equation.inputs[1]]
    labels = indices[..., 0]
    inside = (labels >= 0) & (labels < builder.rules.avals[source].shape[-1])

    def pick(array):
        # Out of range the entry is NaN, and its derivative 0.
        return jnp.where(inside, equation.apply(array, indices)[0], 0.0)

    summands = builder.roots[root].summands or {root: None}
    products = {
        summand: product
        for summand in summands
        if (product := builder.roots[summand].product) is not None
    }
    picked = {summand: product.picked(labels) for summand, product in products.items()}
    needs = tuple(
        builder.source_root(products[summand]) if summand in products else summand
        for summand in summands
    )
    factors = {
        summand: None if factor is None else pick(factor) for summand, factor in summands.items()
    }
    own = None if whole is None else pick(whole)

    def pick_from(tangents: Tangents, summand: int):
        if tangents.is_folded(summand):
            moved = dense(tangents.read(products[summand].source))
            value = jnp.sum(moved * picked[summand], axis=-1, keepdims=True)
        else:
            value = pick(dense(tangents.read_root(summand)))
        return scaled(value, factors[summand])

    builder.new_root(
        out,
        compute=lambda tangents: scaled(
            sum_of([pick_from(tangents, summand) for summand in summands]), own
        ),
        needs=needs,
    )


def picks_labels(equation: Equation, avals: Mapping[int, Any]) -> bool:
    """Whether an equation is `take_along_axis` of one entry along its operand's last axis."""
    if equation.name != "gather":
        return False
    operand, indices = (avals[v] for v in equation.inputs)
    last = operand.ndim - 1
    numbers = equation.params["dimension_numbers"]
    return (
        last >= 1
        and tuple(numbers.offset_dims) == ()
        and tuple(numbers.collapsed_slice_dims) == (last,)
        and tuple(numbers.start_index_map) == (last,)
        and tuple(numbers.operand_batching_dims) == tuple(range(last))
        and tuple(numbers.start_indices_batching_dims) == tuple(range(last))
        and tuple(indices.shape) == (*operand.shape[:-1], 1, 1)
        and all(size == 1 for size in equation.params["slice_sizes"])
        and "FILL" in str(equation.params["mode"])
    )
