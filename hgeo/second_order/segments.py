"""Segments: the parts of a program that the tangents of several layers' weights pass together.

What one layer's weights move passes, further on, through variables that all earlier layers'
weights move too: the residual stream behind a block. From one such cut point to the next there can
be one segment for all layers whose tangents arrive there, and so as many segments as there are
layers and cut points. With a way of its own from each layer to the loss, a compiled program grows
with the square of the depth.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hgeo.second_order.jaxpr import Equation, Program, active

Pairs = list[tuple[Equation, tuple[int, ...]]]

# At each cut point tangents are written out and read again, and something has to be decided.
LAYERS_BETWEEN_CUT_POINTS = 4


class CutPoint(NamedTuple):
    """A place between two equations of a program, for some of what moves there.

    Attributes:
      position: of the equation behind it.
      variables: those that move there and are read behind it, ascending.
    """

    position: int
    variables: tuple[int, ...]


class Segments:
    """The cut points of one program's layers, and the segments between them."""

    def __init__(
        self,
        program: Program,
        needed: set[int],
        sources: Mapping[str, Sequence[int]],
        layers_between: int = LAYERS_BETWEEN_CUT_POINTS,
    ):
        """Chooses the cut points' positions.

        Args:
          program: the traced loss.
          needed: the variables by which it moves, from `reaching`.
          sources: by layer, its leaves among the program's inputs.
          layers_between: the fewest layers between two cut points.
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
            if is_narrow and layers - last >= layers_between:
                self._positions.append(position)
                last = layers

    def cut_points(self, sources: Sequence[int], start: int = 0) -> list[CutPoint]:
        """The cut points behind a position for what moves there with some variables, in order.

        A layer whose weights are read again further on, as tied ones are, has none before that.
        """
        spans, begin = self._spans(sources, start), max(start, self._begin(sources, start))
        found = [CutPoint(p, _live(spans, p)) for p in self._positions if p > begin]
        return [point for point in found if min(point.variables) >= self._program.inputs]

    def segment(self, sources: Sequence[int], start: int = 0, end: CutPoint | None = None) -> Pairs:
        """The equations that move with some variables, from a position to a cut point or the loss.

        Args:
          sources: the variables that move.
          start: the position.
          end: the cut point; `None`, the loss.
        """
        pairs = self._active(sources, start)
        return [pair for pair in pairs if end is None or self._place[pair[0]] < end.position]

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
