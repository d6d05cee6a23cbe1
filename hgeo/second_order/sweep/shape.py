"""Plans equations that sum or move the entries of one input: one-hot tangents stay one-hot."""

import jax.numpy as jnp

from hgeo.second_order import one_hot
from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.one_hot import dense
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import Tangents

# Each maps a tangent and the equation's parameters to the output's tangent.
_SHAPED = {
    "reduce_sum": lambda tangent, params: one_hot.reduce_sum(tangent, params["axes"]),
    "transpose": lambda tangent, params: one_hot.transpose(tangent, params["permutation"]),
    "reshape": lambda tangent, params: one_hot.reshape(tangent, params["new_sizes"]),
    "squeeze": lambda tangent, params: one_hot.reduce_sum(tangent, params["dimensions"]),
}


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Whether the equation is in the table and has one moving input."""
    return equation.name in _SHAPED and len(free) == 1


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one equation."""
    out, source = equation.outputs[0], equation.inputs[0]
    apply = _SHAPED[equation.name]
    root, factor = builder.views[source]
    product = builder.roots[root].product
    last = builder.rules.avals[source].ndim - 1
    sums_product = equation.name == "reduce_sum" and tuple(equation.params["axes"]) == (last,)
    if product is None or not sums_product:
        builder.new_root(
            out,
            compute=lambda tangents: apply(tangents.read(source), equation.params),
            needs=(root,),
        )
        return

    # Σ_v c_v ż_v = ẋ·(W c), which reads the product's source alone.
    summed = builder.once(("summed", root), [factor], lambda: product.summed(factor))

    def compute(tangents: Tangents):
        if not tangents.is_folded(root):
            return apply(tangents.read(source), equation.params)
        moved = dense(tangents.read(product.source))
        return jnp.sum(moved * jnp.broadcast_to(summed, moved.shape), axis=-1)

    builder.new_root(out, compute=compute, needs=(builder.source_root(product),))
