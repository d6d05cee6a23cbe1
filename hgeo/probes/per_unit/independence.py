"""Separable: whether the examples along an axis are independent of each other, by proof.

The output of a program is Σ_b f_b(z_b) in what follows from a variable z, to second order, if every
equation on the way keeps z_b's influence to the position b of one axis of its output, until they
are summed, and only linear equations follow the sum. What no rule here covers counts as mixing:
BatchNorm in training mode, roots or logarithms of means, contrastive losses, rolls.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax.extend import core

from hgeo.second_order.custom_rules import rule_of
from hgeo.second_order.jaxpr import FLAT, Program, flatten, reaching
from hgeo.second_order.linearity import LinearityRules


class Along(NamedTuple):
    """Where in a variable's shape the examples lie: at (axis // inner) % their number.

    Attributes:
      axis: the axis, which may hold other things too.
      inner: how many neighbouring entries of the axis belong to one example.
    """

    axis: int
    inner: int


# A sum over examples of what depends on each alone.
SUMMED = "summed"
Label = Along | str

# Each output has the label of the input in its place.
_SAME = {
    "copy", "copy_p", "name", "device_put", "sharding_constraint", "pvary", "pcast",
    "reduce_precision", "optimization_barrier", "convert_element_type",
}  # fmt: skip
_REDUCTIONS = {"reduce_max", "reduce_min", "reduce_prod"}
_CUMULATIVE = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"}
_WINDOWS = {"reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window"}
_COLLECTIVES = {
    "psum", "psum2", "psum_invariant", "pmax", "pmin", "ppermute", "all_gather",
    "all_gather_invariant", "reduce_scatter", "all_to_all", "unreduced_psum", "pbroadcast",
}  # fmt: skip


class MixingError(Exception):
    """An equation for which it can't be proved that it keeps the examples apart."""


def mixing(program: Program, start: int, axis: int) -> str | None:
    """The equation by which examples along an axis of a variable may mix; `None` if none does.

    Args:
      program: of the loss, with a scalar output.
      start: the variable.
      axis: one of its axes.
    """
    number = program.avals[start].shape[axis]
    if number == 1:
        return None
    try:
        labels = _labels(program, {start: Along(axis, 1)}, number)
    except MixingError as error:
        return str(error)
    return None if labels.get(program.output, SUMMED) == SUMMED else "the output"


def places(program: Program, start: int, axis: int) -> dict[int, int]:
    """For variables in which the examples lie alone along an axis, that axis.

    As far as the proof goes: variables behind the first equation that may mix them are left out.
    """
    number = program.avals[start].shape[axis]
    labels: dict[int, Label] = {start: Along(axis, 1)}
    with contextlib.suppress(MixingError):
        _label(program, labels, number)
    return {
        variable: label.axis
        for variable, label in labels.items()
        if isinstance(label, Along) and program.avals[variable].shape[label.axis] == number
    }


def _labels(program: Program, given: Mapping[int, Label], number: int) -> dict[int, Label]:
    """The labels of all variables that move."""
    labels = dict(given)
    _label(program, labels, number)
    return labels


def _label(program: Program, labels: dict[int, Label], number: int) -> None:
    """Adds the labels of all variables that move, in the order of the program."""
    rules, needed = LinearityRules(program), reaching(program)
    for equation in program.equations:
        free = tuple(k for k, v in enumerate(equation.inputs) if v in labels)
        if not free or equation.name in FLAT or not needed.intersection(equation.outputs):
            continue
        out = _Step(equation, free, labels, rules, number).outputs()
        labels.update(zip(equation.outputs, out, strict=True))


class _Step:
    """One equation and the labels of its moving inputs."""

    def __init__(self, equation, free, labels, rules, number):
        self.equation, self.free, self.rules, self.number = equation, free, rules, number
        self.labels = {k: labels[equation.inputs[k]] for k in free}
        self.shapes = [getattr(rules.avals[v], "shape", ()) for v in equation.inputs]

    def outputs(self) -> Sequence[Label]:
        equation, labels = self.equation, set(self.labels.values())
        many = len(equation.outputs)
        if equation.name in _COLLECTIVES:
            raise self.mixes()
        if equation.name in _SAME:
            if many == 1:
                return [self.only()]
            return [self.labels.get(k, SUMMED) for k in range(many)]
        if labels == {SUMMED}:
            if many == 1 and self.rules.is_linear(equation, self.free):
                return [SUMMED]
            raise self.mixes("follows a sum over the examples and is not linear")
        if SUMMED in labels:
            raise self.mixes("takes a sum over the examples back to each")
        if self.rules.is_elementwise(equation, self.free):
            return [self.elementwise()]
        rule = getattr(self, "of_" + equation.name.replace("-", "_"), None)
        if rule is not None:
            return [rule(equation.params)] * many
        if equation.name in _REDUCTIONS:
            return [self.kept(equation.params["axes"])]
        if equation.name in _CUMULATIVE:
            return [self.apart(equation.params["axis"])]
        if equation.name in _WINDOWS:
            return [self.of_window(equation.params)]
        raise self.mixes()

    def mixes(self, why: str = "is not known to keep the examples apart") -> MixingError:
        return MixingError(f"{self.equation.name!r} {why}")

    def only(self) -> Any:
        """The one label of all moving inputs."""
        labels = set(self.labels.values())
        if len(labels) != 1:
            raise self.mixes("brings different axes together")
        return labels.pop()

    def operand(self) -> Along:
        """The label of the first input, where it alone moves."""
        if self.free != (0,):
            raise self.mixes()
        return self.labels[0]

    def elementwise(self) -> Label:
        label, shape = self.only(), self.equation.avals[0].shape
        for k in self.free:
            if self.shapes[k] == () or self.shapes[k][label.axis] != shape[label.axis]:
                raise self.mixes("repeats its input")
        return label

    def kept(self, gone: Sequence[int]) -> Along:
        """The label where some other axes go away."""
        label = self.only()
        if label.axis in gone:
            raise self.mixes("reduces over the examples")
        return Along(label.axis - sum(axis < label.axis for axis in gone), label.inner)

    def apart(self, *axes: int) -> Along:
        """The label where something happens along other axes."""
        label = self.only()
        if label.axis in axes:
            raise self.mixes("works along the examples")
        return label

    def of_broadcast_in_dim(self, params):
        label = self.operand()
        axis = params["broadcast_dimensions"][label.axis]
        if params["shape"][axis] != self.shapes[0][label.axis]:
            raise self.mixes("repeats its input")
        return Along(axis, label.inner)

    def of_reshape(self, params):
        label, old, new = self.operand(), self.shapes[0], params["new_sizes"]
        if params["dimensions"] is not None:
            raise self.mixes()
        stride = label.inner * math.prod(old[label.axis + 1 :])
        for axis, size in enumerate(new):
            behind = math.prod(new[axis + 1 :])
            inner, rest = divmod(stride, behind)
            if inner >= 1 and not rest and size % (inner * self.number) == 0:
                return Along(axis, inner)
        raise self.mixes("divides the axis of the examples")

    def of_transpose(self, params):
        label = self.operand()
        return Along(tuple(params["permutation"]).index(label.axis), label.inner)

    def of_squeeze(self, params):
        self.operand()
        return self.kept(params["dimensions"])

    def of_reduce_sum(self, params):
        self.operand()
        return SUMMED if self.only().axis in params["axes"] else self.kept(params["axes"])

    def of_rev(self, params):
        return self.apart(*params["dimensions"])

    def of_sort(self, params):
        return self.apart(params["dimension"])

    def of_split(self, params):
        return self.apart(params["axis"])

    def of_concatenate(self, params):
        return self.apart(params["dimension"])

    def of_slice(self, params):
        label, shape = self.operand(), self.shapes[0]
        strides = params["strides"] or (1,) * len(shape)
        start, limit = params["start_indices"][label.axis], params["limit_indices"][label.axis]
        if (start, limit, strides[label.axis]) != (0, shape[label.axis], 1):
            raise self.mixes("takes some of the examples")
        return label

    def of_dynamic_slice(self, params):
        label = self.operand()
        if params["slice_sizes"][label.axis] != self.shapes[0][label.axis]:
            raise self.mixes("takes some of the examples")
        return label

    def of_dynamic_update_slice(self, params):
        label = self.only()
        if self.shapes[0][label.axis] != self.shapes[1][label.axis]:
            raise self.mixes("takes some of the examples")
        return label

    def of_pad(self, params):
        label = self.operand()
        if tuple(params["padding_config"][label.axis]) != (0, 0, 0):
            raise self.mixes("works along the examples")
        return label

    def of_gather(self, params):
        label, numbers = self.operand(), params["dimension_numbers"]
        axis, out = label.axis, self.equation.avals[0]
        if axis in numbers.operand_batching_dims:
            place = numbers.operand_batching_dims.index(axis)
            batch = [a for a in range(out.ndim) if a not in numbers.offset_dims]
            return Along(batch[numbers.start_indices_batching_dims[place]], label.inner)
        gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        full = params["slice_sizes"][axis] == self.shapes[0][axis]
        if axis in gone or axis in numbers.start_index_map or not full:
            raise self.mixes("picks among the examples")
        window = [a for a in range(len(self.shapes[0])) if a not in gone]
        return Along(numbers.offset_dims[window.index(axis)], label.inner)

    def of_dot_general(self, params):
        contract, batch = params["dimension_numbers"]
        free = [
            [a for a in range(len(shape)) if a not in contract[k] and a not in batch[k]]
            for k, shape in enumerate(self.shapes)
        ]
        places = []
        for k, label in self.labels.items():
            axis = label.axis
            if axis in batch[k]:
                places.append(("batch", tuple(batch[k]).index(axis), label.inner))
            elif axis in contract[k]:
                places.append(("contract", tuple(contract[k]).index(axis), label.inner))
            elif len(self.labels) > 1:
                raise self.mixes("multiplies examples with each other")
            else:
                start = len(batch[0]) + (len(free[0]) if k else 0)
                return Along(start + free[k].index(axis), label.inner)
        if len(set(places)) > 1:
            raise self.mixes("multiplies examples with each other")
        kind, place, inner = places[0]
        return Along(place, inner) if kind == "batch" else SUMMED

    def of_conv_general_dilated(self, params):
        label, numbers = self.operand(), params["dimension_numbers"]
        if label.axis != numbers.lhs_spec[0] or params["batch_group_count"] != 1:
            raise self.mixes("works along the examples")
        return Along(numbers.out_spec[0], label.inner)

    def of_window(self, params):
        label = self.operand()
        axis = label.axis
        ones = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
        if any(params[name][axis] != 1 for name in ones) or params["padding"][axis] != (0, 0):
            raise self.mixes("works along the examples")
        return label

    def of_custom_jvp_call(self, params):
        if not rule_of(self.equation).is_derivative:
            raise self.mixes("has a rule that may not be its derivative")
        closed: core.ClosedJaxpr = params["call_jaxpr"]
        labels = set()
        for var in closed.jaxpr.outvars:
            program = flatten(closed.replace(jaxpr=closed.jaxpr.replace(outvars=[var])))
            found = _labels(program, self.labels, self.number).get(program.output)
            labels |= {found} if found else set()
        if len(labels) != 1:
            raise self.mixes()
        return labels.pop()
