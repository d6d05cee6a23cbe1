"""Routes: the stops from which the tangents of several layers' weights go on together.

What one layer's weights move passes, further on, through variables that all earlier layers'
weights move too: the residual stream behind a block. From one such stop to the next there can be
one leg for all that come by, and so as many legs as there are layers and stops. With a way of its
own from each layer to the loss, a compiled program grows with the square of the depth.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hgeo.second_order.jaxpr import Equation, Program, active

Pairs = list[tuple[Equation, tuple[int, ...]]]

# At each stop tangents are written out and read again, and something has to be decided.
LAYERS_BETWEEN_STOPS = 4


class Stop(NamedTuple):
    """A place between two equations of a program, for some of what moves there.

    Attributes:
      position: of the equation behind it.
      variables: those that move there and are read behind it, ascending.
    """

    position: int
    variables: tuple[int, ...]


class Routes:
    """The stops of one program's layers, and the legs between them."""

    def __init__(self, program: Program, needed: set[int], sources: Mapping[str, Sequence[int]]):
        """Chooses the stops' positions.

        Args:
          program: the traced loss.
          needed: the variables by which it moves, from `reaching`.
          sources: by layer, its leaves among the program's inputs.
        """
        self._program, self._needed = program, needed
        self._place = {equation: place for place, equation in enumerate(program.equations)}
        begins = sorted({self._begin(own) for own in sources.values()} - {len(self._place)})
        spans = self._spans(sorted({leaf for own in sources.values() for leaf in own}))
        width = lambda position: sum(
            math.prod(program.avals[v].shape) * program.avals[v].dtype.itemsize
            for v in _live(spans, position)
            if v >= program.inputs
        )
        # Of each stretch from one layer to the next the narrowest place, and of these the ones
        # that are no wider than their neighbours: between two blocks rather than inside one.
        narrow = [
            min(range(end, begin, -1), key=width) for begin, end in itertools.pairwise(begins)
        ]
        widths = [math.inf, *map(width, narrow), math.inf]
        self._positions: list[int] = []
        last = 0
        for layers, position in enumerate(narrow, 1):
            is_narrow = widths[layers] <= min(widths[layers - 1], widths[layers + 1])
            if is_narrow and layers - last >= LAYERS_BETWEEN_STOPS:
                self._positions.append(position)
                last = layers

    def stops(self, sources: Sequence[int], start: int = 0) -> list[Stop]:
        """The stops behind a position of what moves there with some variables, in order.

        Where a layer's weights are read again further on, as tied ones are, it cannot stop.
        """
        spans, begin = self._spans(sources, start), max(start, self._begin(sources, start))
        found = [Stop(p, _live(spans, p)) for p in self._positions if p > begin]
        return [stop for stop in found if min(stop.variables) >= self._program.inputs]

    def leg(self, sources: Sequence[int], start: int = 0, stop: Stop | None = None) -> Pairs:
        """The equations from a position to a stop, or to the end, that move with some variables."""
        pairs = self._active(sources, start)
        return [p for p in pairs if stop is None or self._place[p[0]] < stop.position]

    def _active(self, sources, start):
        rest = dataclasses.replace(self._program, equations=self._program.equations[start:])
        return active(rest, self._needed, sources)

    def _begin(self, sources, start=0):
        pairs = self._active(sources, start)
        return self._place[pairs[0][0]] if pairs else len(self._place)

    def _spans(self, sources, start=0):
        """For each variable the places of the equations that make it and that read it last."""
        made, read = dict.fromkeys(sources, -1), {}
        for equation, free in self._active(sources, start):
            made |= dict.fromkeys(equation.outputs, self._place[equation])
            read |= {equation.inputs[k]: self._place[equation] for k in free}
        return {variable: (made[variable], last) for variable, last in read.items()}


def _live(spans, position):
    """The variables that are made before a position and read behind it."""
    return tuple(sorted(v for v, (made, read) in spans.items() if made < position <= read))
