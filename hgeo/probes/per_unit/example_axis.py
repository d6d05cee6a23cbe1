"""Where the examples lie in a variable, and what is asked of one equation about them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hgeo.second_order.jaxpr import Equation


class ExampleAxis(NamedTuple):
    """Where in a variable's shape the examples lie: at (axis // inner) % their number.

    Attributes:
      axis: the axis, which may hold other things too.
      inner: how many neighbouring entries of the axis belong to one example.
    """

    axis: int
    inner: int


# A sum over examples of what depends on each alone.
SUMMED = "summed"
Label = ExampleAxis | str


class MixingError(Exception):
    """An equation for which it can't be proved that it keeps the examples apart."""


class MovingInputs:
    """One equation, and where the examples lie in those of its inputs that move.

    Attributes:
      equation: the equation.
      free: the positions of the inputs that move.
      labels: theirs, by position.
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
        # Rules are asked for labels that are no sums.
        self.labels: dict[int, Any] = {k: labels[equation.inputs[k]] for k in free}
        self.shapes = [getattr(avals[v], "shape", ()) for v in equation.inputs]

    def mixes(self, why: str = "is not known to keep the examples apart") -> MixingError:
        """The error that names the equation."""
        return MixingError(f"{self.equation.name!r} {why}")

    def common(self) -> Any:
        """The one label of all moving inputs."""
        labels = set(self.labels.values())
        if len(labels) != 1:
            raise self.mixes("brings different axes together")
        return labels.pop()

    def first(self) -> Any:
        """The label of the first input, where it alone moves."""
        if self.free != (0,):
            raise self.mixes()
        return self.labels[0]

    def without(self, gone: Sequence[int]) -> ExampleAxis:
        """The label where some other axes go away."""
        label = self.common()
        if label.axis in gone:
            raise self.mixes("reduces over the examples")
        return ExampleAxis(label.axis - sum(axis < label.axis for axis in gone), label.inner)

    def beside(self, *axes: int) -> ExampleAxis:
        """The label where something happens along other axes."""
        label = self.common()
        if label.axis in axes:
            raise self.mixes("works along the examples")
        return label
