"""Cuts a program into segments that the tangents of several layers share.

Behind a block, the tangents of its layers and of all earlier layers pass through the same
variables: the residual stream. Such a place can be a cut point. One segment from a cut point to the
next serves all layers whose tangents pass it, so the compiled program grows linearly with the
depth. With a separate path from each layer to the loss it grows with the square of the depth.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hgeo.second_order.jaxpr import Equation, Program, active
from hgeo.second_order.memory import bytes_of

Pairs = list[tuple[Equation, tuple[int, ...]]]

# Each cut point costs a branch, and writes tangents to memory and reads them back.
LAYERS_BETWEEN_CUT_POINTS = 4


class CutPoint(NamedTuple):
    """A place between two equations of a program, for the tangents of some layers.

    Attributes:
      position: of the equation behind it.
      variables: those computed before it and read behind it that have a tangent, ascending.
    """

    position: int
    variables: tuple[int, ...]


def positions_between_layers(
    program: Program,
    needed: set[int],
    sources: Mapping[str, Sequence[int]],
    layers_between: int = LAYERS_BETWEEN_CUT_POINTS,
) -> list[int]:
    """Positions for cut points: narrow places of the tangents, between blocks of layers.

    Args:
      program: the traced loss.
      needed: the variables whose tangents reach the output, from `reaching`.
      sources: by layer, its leaves among the program's inputs.
      layers_between: the fewest layers between two cut points.
    """
    whole = Segments(program, needed, ())
    num_equations = len(program.equations)
    begins = sorted({whole.begin(own) for own in sources.values()} - {num_equations})
    spans = whole.spans(sorted({leaf for own in sources.values() for leaf in own}))
    width = lambda position: sum(
        bytes_of(program.avals[v]) for v in _live(spans, position) if v >= program.inputs
    )
    # Between two layers, the narrowest place. Only those no wider than both neighbours are
    # used, so that cut points lie between blocks and not inside them.
    narrow = [min(range(end, begin, -1), key=width) for begin, end in itertools.pairwise(begins)]
    widths = [math.inf, *map(width, narrow), math.inf]
    positions: list[int] = []
    last = 0
    for layers, position in enumerate(narrow, 1):
        is_narrow = widths[layers] <= min(widths[layers - 1], widths[layers + 1])
        if is_narrow and layers - last >= layers_between:
            positions.append(position)
            last = layers
    return positions


class Segments:
    """The cut points of one program's layers, and the segments between them."""

    def __init__(self, program: Program, needed: set[int], positions: Sequence[int]):
        """Takes the cut points' positions.

        Args:
          program: the traced loss.
          needed: the variables whose tangents reach the output, from `reaching`.
          positions: of the cut points, ascending.
        """
        self._program, self._needed, self._positions = program, needed, positions
        self._place = {equation: place for place, equation in enumerate(program.equations)}

    def cut_points(self, sources: Sequence[int], start: int = 0) -> list[CutPoint]:
        """The cut points behind a position for the tangents of some variables, in order.

        Tied weights have no cut point before the last equation that reads them.
        """
        spans, begin = self.spans(sources, start), max(start, self.begin(sources, start))
        points = [CutPoint(p, _live(spans, p)) for p in self._positions if p > begin]
        return [point for point in points if min(point.variables) >= self._program.inputs]

    def segment(self, sources: Sequence[int], start: int = 0, end: CutPoint | None = None) -> Pairs:
        """The equations that tangents pass from a position to a cut point or the loss.

        Args:
          sources: the variables that have a tangent.
          start: the position.
          end: the cut point; `None` for the loss.
        """
        pairs = self._active(sources, start)
        return [pair for pair in pairs if end is None or self._place[pair[0]] < end.position]

    def _active(self, sources, start):
        rest = dataclasses.replace(self._program, equations=self._program.equations[start:])
        return active(rest, self._needed, sources)

    def begin(self, sources: Sequence[int], start: int = 0) -> int:
        """The position of the first equation behind `start` that tangents of `sources` pass."""
        pairs = self._active(sources, start)
        return self._place[pairs[0][0]] if pairs else len(self._place)

    def spans(self, sources: Sequence[int], start: int = 0) -> dict[int, tuple[int, int]]:
        """For each variable with a tangent, the places that compute it and read it last."""
        made, read = dict.fromkeys(sources, -1), {}
        for equation, free in self._active(sources, start):
            made |= dict.fromkeys(equation.outputs, self._place[equation])
            read |= {equation.inputs[k]: self._place[equation] for k in free}
        return {variable: (made[variable], last) for variable, last in read.items()}


def _live(spans, position):
    """The variables that are computed before a position and read behind it."""
    return tuple(sorted(v for v, (made, read) in spans.items() if made < position <= read))
