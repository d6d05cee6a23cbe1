"""Proves from a program that the examples along an axis of a variable are independent.

As a function of a variable z, the output is Σ_b f_b(z_b) to second order if

- every equation behind z keeps the influence of z_b at position b of one axis of its output, until
  the examples are summed, and
- only linear equations follow the sum.

Any other equation counts as mixing: BatchNorm in training mode, roots or logarithms of means,
contrastive losses, rolls.
"""

import contextlib
from collections.abc import Mapping, Sequence

from jax.extend import core

from hgeo.probes.per_unit.axis_rules import RULES, elementwise
from hgeo.probes.per_unit.example_axis import (
    SUMMED,
    ExampleAxis,
    Label,
    MixingError,
    MovingInputs,
)
from hgeo.second_order.custom_rules import rule_of
from hgeo.second_order.jaxpr import FLAT, Program, flatten, reaching
from hgeo.second_order.linearity import LinearityRules

# Output k has the label of input k.
_SAME = {
    "copy", "copy_p", "name", "device_put", "sharding_constraint", "reshard", "pvary", "pcast",
    "reduce_precision", "optimization_barrier", "convert_element_type",
}  # fmt: skip
_COLLECTIVES = {
    "psum", "psum2", "psum_invariant", "pmax", "pmin", "ppermute", "all_gather",
    "all_gather_invariant", "reduce_scatter", "all_to_all", "unreduced_psum", "pbroadcast",
}  # fmt: skip


def mixing(program: Program, start: int, axis: int) -> str | None:
    """Why examples along an axis of a variable may mix, naming the equation; `None` if they don't.

    Args:
      program: of the loss, with a scalar output.
      start: the variable.
      axis: one of its axes.
    """
    num_examples = program.avals[start].shape[axis]
    if num_examples == 1:
        return None
    try:
        labels = _all_labels(program, {start: ExampleAxis(axis, 1)}, num_examples)
    except MixingError as error:
        return str(error)
    return None if labels.get(program.output, SUMMED) == SUMMED else "the output"


def places(program: Program, start: int, axis: int) -> dict[int, int]:
    """For each variable with an axis that holds the examples and nothing else, that axis.

    Variables behind the first equation that may mix the examples are left out.
    """
    num_examples = program.avals[start].shape[axis]
    labels: dict[int, Label] = {start: ExampleAxis(axis, 1)}
    with contextlib.suppress(MixingError):
        _add_labels(program, labels, num_examples)
    return {
        variable: label.axis
        for variable, label in labels.items()
        if isinstance(label, ExampleAxis)
        and program.avals[variable].shape[label.axis] == num_examples
    }


def _all_labels(
    program: Program, given: Mapping[int, Label], num_examples: int
) -> dict[int, Label]:
    """The labels of all moving variables."""
    labels = dict(given)
    _add_labels(program, labels, num_examples)
    return labels


def _add_labels(program: Program, labels: dict[int, Label], num_examples: int) -> None:
    """Adds the labels of all moving variables, in the order of the program."""
    rules, needed = LinearityRules(program), reaching(program)
    for equation in program.equations:
        free = tuple(k for k, v in enumerate(equation.inputs) if v in labels)
        if not free or equation.name in FLAT or not needed.intersection(equation.outputs):
            continue
        inputs = MovingInputs(equation, free, labels, program.avals, num_examples)
        labels.update(zip(equation.outputs, _output_labels(inputs, rules), strict=True))


def _output_labels(inputs: MovingInputs, rules: LinearityRules) -> Sequence[Label]:
    equation, labels = inputs.equation, set(inputs.labels.values())
    num_outputs = len(equation.outputs)
    if equation.name in _COLLECTIVES:
        raise inputs.mixes()
    if equation.name in _SAME:
        if num_outputs == 1:
            return [inputs.common()]
        return [inputs.labels.get(k, SUMMED) for k in range(num_outputs)]
    if labels == {SUMMED}:
        if num_outputs == 1 and rules.is_linear(equation, inputs.free):
            return [SUMMED]
        raise inputs.mixes("follows a sum over the examples and is not linear")
    if SUMMED in labels:
        raise inputs.mixes("takes a sum over the examples back to each")
    if rules.is_elementwise(equation, inputs.free):
        return [elementwise(inputs)]
    if equation.name == "custom_jvp_call":
        return [_label_of_custom_jvp(inputs)] * num_outputs
    if equation.name in RULES:
        return [RULES[equation.name](inputs, equation.params)] * num_outputs
    raise inputs.mixes()


def _label_of_custom_jvp(inputs: MovingInputs) -> Label:
    if not rule_of(inputs.equation).is_derivative:
        raise inputs.mixes("has a rule that may not be its derivative")
    closed: core.ClosedJaxpr = inputs.equation.params["call_jaxpr"]
    labels = set()
    for var in closed.jaxpr.outvars:
        program = flatten(closed.replace(jaxpr=closed.jaxpr.replace(outvars=[var])))
        label = _all_labels(program, inputs.labels, inputs.num_examples).get(program.output)
        labels |= {label} if label else set()
    if len(labels) != 1:
        raise inputs.mixes()
    return labels.pop()
