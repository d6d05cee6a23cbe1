"""Labels that say along which axis the examples lie in a variable, and an equation's labels."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hgeo.second_order.jaxpr import Equation


class ExampleAxis(NamedTuple):
    """An axis along which the examples lie: index k belongs to example (k // inner) % number.

    Attributes:
      axis: the axis, which may be longer than the number of examples.
      inner: the number of neighbouring entries of the axis that belong to one example.
    """

    axis: int
    inner: int


# A sum over examples of values that each depend on one example alone.
SUMMED = "summed"
Label = ExampleAxis | str


class MixingError(Exception):
    """An equation is not proved to keep the examples apart."""


class MovingInputs:
    """One equation, and where the examples lie in those of its inputs that move.

    Attributes:
      equation: the equation.
      free: the positions of the inputs that move.
      labels: the labels of these inputs, by position.
      shapes: of all inputs.
      num_examples: the number of examples.
    """

    def __init__(
        self,
        equation: Equation,
        free: tuple[int, ...],
        labels: Mapping[int, Label],
        avals: Mapping[int, Any],
        num_examples: int,
    ):
        """Takes the labels and shapes of all variables."""
        self.equation, self.free, self.num_examples = equation, free, num_examples
        # Any: rules are only called if no label is SUMMED.
        self.labels: dict[int, Any] = {k: labels[equation.inputs[k]] for k in free}
        self.shapes = [getattr(avals[v], "shape", ()) for v in equation.inputs]

    def mixes(self, why: str = "is not known to keep the examples apart") -> MixingError:
        """The error that names the equation."""
        return MixingError(f"{self.equation.name!r} {why}")

    def common(self) -> Any:
        """The label that all moving inputs have in common."""
        labels = set(self.labels.values())
        if len(labels) != 1:
            raise self.mixes("brings different axes together")
        return labels.pop()

    def first(self) -> Any:
        """The label of the first input, if it is the only moving input."""
        if self.free != (0,):
            raise self.mixes()
        return self.labels[0]

    def without(self, gone: Sequence[int]) -> ExampleAxis:
        """The output's label if the equation removes some other axes."""
        label = self.common()
        if label.axis in gone:
            raise self.mixes("reduces over the examples")
        return ExampleAxis(label.axis - sum(axis < label.axis for axis in gone), label.inner)

    def beside(self, *axes: int) -> ExampleAxis:
        """The output's label if the equation works along other axes."""
        label = self.common()
        if label.axis in axes:
            raise self.mixes("works along the examples")
        return label
