"""Traces a loss as a program of the leaves that belong to some layers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.params.layers import Layer
from hgeo.params.leaf_paths import leaves_by_path, path_of
from hgeo.second_order.jaxpr import Program, trace

PyTree = Any


class TracedLoss(NamedTuple):
    """A traced loss.

    Attributes:
      program: the loss as a function of the leaves.
      sources: for each layer, the program's input that holds each of its parts.
      leaves: the inputs' values.
    """

    program: Program
    sources: dict[str, list[int]]
    leaves: list[jax.Array]


def trace_loss(
    total: Callable[[PyTree], jax.Array], params: PyTree, layers: Mapping[str, Layer]
) -> TracedLoss:
    """Traces a loss in the leaves that belong to any of the layers."""
    order: list[str] = []
    sources: dict[str, list[int]] = {}
    for layer in layers.values():
        layer.leaves(params)  # raises if the params do not fit
    for name, layer in layers.items():
        sources[name] = []
        for part in layer.parts:
            path = path_of(part)
            if path not in order:
                order.append(path)
            sources[name].append(order.index(path))
    by_path = leaves_by_path(params)
    leaves = [jnp.asarray(by_path[path]) for path in order]
    whole = [
        Layer(p, (p,), (x.shape,), (str(x.dtype),)) for p, x in zip(order, leaves, strict=True)
    ]

    def total_of_leaves(*leaves):
        changed = params
        for layer, leaf in zip(whole, leaves, strict=True):
            changed = layer.replace_leaves(changed, (leaf,))
        return total(changed)

    return TracedLoss(trace(total_of_leaves, *leaves), sources, leaves)
