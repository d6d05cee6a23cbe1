"""Rules by primitive: along which axis the examples lie in its outputs.

A rule takes the labels of the moving inputs, none of them `SUMMED`. It returns the label of every
output, or raises a `MixingError`. A primitive without a rule counts as mixing the examples.
"""

import math
from collections.abc import Callable
from typing import Any

from hgeo.probes.per_unit.example_axis import SUMMED, ExampleAxis, Label, MovingInputs

Rule = Callable[[MovingInputs, Any], Label]


def elementwise(inputs: MovingInputs) -> Label:
    """The label of an elementwise equation's output."""
    label, shape = inputs.common(), inputs.equation.avals[0].shape
    for k in inputs.free:
        if inputs.shapes[k] == () or inputs.shapes[k][label.axis] != shape[label.axis]:
            raise inputs.mixes("repeats its input")
    return label


def _broadcast_in_dim(inputs, params):
    label = inputs.first()
    axis = params["broadcast_dimensions"][label.axis]
    if params["shape"][axis] != inputs.shapes[0][label.axis]:
        raise inputs.mixes("repeats its input")
    return ExampleAxis(axis, label.inner)


def _reshape(inputs, params):
    label, old, new = inputs.first(), inputs.shapes[0], params["new_sizes"]
    if params["dimensions"] is not None:
        raise inputs.mixes()
    stride = label.inner * math.prod(old[label.axis + 1 :])
    for axis, size in enumerate(new):
        behind = math.prod(new[axis + 1 :])
        inner, rest = divmod(stride, behind)
        if inner >= 1 and not rest and size % (inner * inputs.num_examples) == 0:
            return ExampleAxis(axis, inner)
    raise inputs.mixes("divides the axis of the examples")


def _transpose(inputs, params):
    label = inputs.first()
    return ExampleAxis(tuple(params["permutation"]).index(label.axis), label.inner)


def _squeeze(inputs, params):
    inputs.first()
    return inputs.without(params["dimensions"])


def _reduce_sum(inputs, params):
    label = inputs.first()
    return SUMMED if label.axis in params["axes"] else inputs.without(params["axes"])


def _slice(inputs, params):
    label, shape = inputs.first(), inputs.shapes[0]
    strides = params["strides"] or (1,) * len(shape)
    start, limit = params["start_indices"][label.axis], params["limit_indices"][label.axis]
    if (start, limit, strides[label.axis]) != (0, shape[label.axis], 1):
        raise inputs.mixes("takes some of the examples")
    return label


def _dynamic_slice(inputs, params):
    label = inputs.first()
    if params["slice_sizes"][label.axis] != inputs.shapes[0][label.axis]:
        raise inputs.mixes("takes some of the examples")
    return label


def _dynamic_update_slice(inputs, params):
    label = inputs.common()
    if inputs.shapes[0][label.axis] != inputs.shapes[1][label.axis]:
        raise inputs.mixes("takes some of the examples")
    return label


def _pad(inputs, params):
    label = inputs.first()
    if tuple(params["padding_config"][label.axis]) != (0, 0, 0):
        raise inputs.mixes("works along the examples")
    return label


def _gather(inputs, params):
    label, numbers = inputs.first(), params["dimension_numbers"]
    axis, out = label.axis, inputs.equation.avals[0]
    if axis in numbers.operand_batching_dims:
        place = numbers.operand_batching_dims.index(axis)
        batch = [a for a in range(out.ndim) if a not in numbers.offset_dims]
        return ExampleAxis(batch[numbers.start_indices_batching_dims[place]], label.inner)
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    full = params["slice_sizes"][axis] == inputs.shapes[0][axis]
    if axis in gone or axis in numbers.start_index_map or not full:
        raise inputs.mixes("picks among the examples")
    window = [a for a in range(len(inputs.shapes[0])) if a not in gone]
    return ExampleAxis(numbers.offset_dims[window.index(axis)], label.inner)


def _dot_general(inputs, params):
    contract, batch = params["dimension_numbers"]
    free = [
        [a for a in range(len(shape)) if a not in contract[k] and a not in batch[k]]
        for k, shape in enumerate(inputs.shapes)
    ]
    places = []
    for k, label in inputs.labels.items():
        axis = label.axis
        if axis in batch[k]:
            places.append(("batch", tuple(batch[k]).index(axis), label.inner))
        elif axis in contract[k]:
            places.append(("contract", tuple(contract[k]).index(axis), label.inner))
        elif len(inputs.labels) > 1:
            raise inputs.mixes("multiplies examples with each other")
        else:
            start = len(batch[0]) + (len(free[0]) if k else 0)
            return ExampleAxis(start + free[k].index(axis), label.inner)
    if len(set(places)) > 1:
        raise inputs.mixes("multiplies examples with each other")
    kind, place, inner = places[0]
    return ExampleAxis(place, inner) if kind == "batch" else SUMMED


def _convolution(inputs, params):
    label, numbers = inputs.first(), params["dimension_numbers"]
    if label.axis != numbers.lhs_spec[0] or params["batch_group_count"] != 1:
        raise inputs.mixes("works along the examples")
    return ExampleAxis(numbers.out_spec[0], label.inner)


def _window(inputs, params):
    label = inputs.first()
    axis = label.axis
    ones = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    if any(params[name][axis] != 1 for name in ones) or params["padding"][axis] != (0, 0):
        raise inputs.mixes("works along the examples")
    return label


_REDUCTIONS = ("reduce_max", "reduce_min", "reduce_prod")
_CUMULATIVE = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
_WINDOWS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window")

RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "reduce_sum": _reduce_sum,
    "rev": lambda inputs, params: inputs.beside(*params["dimensions"]),
    "sort": lambda inputs, params: inputs.beside(params["dimension"]),
    "split": lambda inputs, params: inputs.beside(params["axis"]),
    "concatenate": lambda inputs, params: inputs.beside(params["dimension"]),
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "pad": _pad,
    "gather": _gather,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    **dict.fromkeys(_REDUCTIONS, lambda inputs, params: inputs.without(params["axes"])),
    **dict.fromkeys(_CUMULATIVE, lambda inputs, params: inputs.beside(params["axis"])),
    **dict.fromkeys(_WINDOWS, _window),
}
