"""Plans equations that move whole tokens of a wide product: they apply to its source instead.

Logits are often flattened, shifted by a token or reordered before the loss reads them. Such an
equation moves the vectors of x·W along the last axis, and commutes with the product by W.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.one_hot import dense
from hgeo.second_order.sweep.builder import PlanBuilder
from hgeo.second_order.sweep.tangents import View


def takes(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> bool:
    """Whether the only moving input is a wide product whose last axis stays as it is."""
    return free == (0,) and _on_source(builder, equation) is not None


def plan(builder: PlanBuilder, equation: Equation, free: tuple[int, ...]) -> None:
    """Plans one equation: its output is a wide product of the source's moved tokens."""
    # The equation moves the factor as well. The new root, numbered as the output, is the tangent
    # that the moved factor multiplies.
    out, input_ = equation.outputs[0], equation.inputs[0]
    root, factor = builder.views[input_]
    product, on_source = builder.roots[root].product, _on_source(builder, equation)
    assert product is not None, "only wide products are taken"
    assert on_source is not None, "only wide products are taken"
    source = builder.unnamed_root(
        builder.roots[root].dtype,
        compute=lambda tangents: on_source.apply(dense(tangents.read(product.source)))[0],
        needs=(builder.source_root(product),),
    )
    if factor is not None:
        given = factor
        factor = builder.once(("moved", equation), [given], lambda: equation.apply(given)[0])
    builder.new_root(
        out,
        compute=lambda tangents: equation.apply(dense(tangents.read_root(root)))[0],
        needs=(root,),
        product=dataclasses.replace(product, source=source),
    )
    builder.views[out] = View(out, factor)


def _on_source(builder: PlanBuilder, equation: Equation) -> Equation | None:
    product = builder.roots[builder.views[equation.inputs[0]].root].product
    return product and on_tokens(equation, builder.rules.avals, product.matrix.shape[0])


def on_tokens(equation: Equation, avals: Mapping[int, Any], size: int) -> Equation | None:
    """The equation for tokens of `size` entries; `None` if it does more than move whole tokens.

    Args:
      equation: of one operand, whose tokens lie along its last axis.
      avals: shape and dtype of every variable.
      size: entries of a token.
    """
    name, params, shape = equation.name, equation.params, avals[equation.inputs[0]].shape
    last = len(shape) - 1
    if name == "reshape" and params["new_sizes"][-1:] == shape[-1:]:
        changed = {"new_sizes": (*params["new_sizes"][:-1], size)}
    elif name == "slice" and _takes_all(params, last, shape[last]):
        changed = {"limit_indices": (*params["limit_indices"][:-1], size)}
    elif (name == "transpose" and params["permutation"][-1] == last) or (
        name == "squeeze" and last not in params["dimensions"]
    ):
        changed = {}
    else:
        return None
    aval = equation.avals[0]
    narrow = aval.update(shape=(*aval.shape[:-1], size))
    return dataclasses.replace(equation, params={**params, **changed}, avals=(narrow,))


def _takes_all(params: Mapping[str, Any], axis: int, size: int) -> bool:
    """Whether a slice takes every entry along an axis."""
    strides = params["strides"]
    step = 1 if strides is None else strides[axis]
    return (params["start_indices"][axis], params["limit_indices"][axis], step) == (0, size, 1)
