"""Cuts a program into pieces whose values are recomputed from those at their starts.

Without pieces, the values and adjoints of all equations coexist: O(depth) of memory. With about
√depth pieces, only the values at the starts of the pieces are kept, and those of one piece at a
time are computed again: O(√depth). `jax.checkpoint` does the same for a gradient.

Reference:
  Chen, Xu, Zhang, Guestrin. Training Deep Nets with Sublinear Memory Cost. 2016.
"""

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.device_axes import zeros_of
from hgeo.second_order.isolation import isolated
from hgeo.second_order.jaxpr import Equation, Program, is_inexact, run_equations
from hgeo.second_order.memory import bytes_of

Values = dict[int, Any]

# A cut may lie up to this share of a piece away from an even division, where fewer values live.
SLACK = 0.5

MAX_PIECES = 64


class Pieces:
    """A program's pieces, the values at their starts and the adjoints there."""

    def __init__(self, program: Program, leaves: Sequence[jax.Array]):
        """Runs the program forward and backward, and keeps what lies between two pieces.

        Args:
          program: the traced loss.
          leaves: its inputs.
        """
        self._program = program
        self._given = dict(program.constants) | dict(enumerate(leaves))
        self._live = _live_variables(program)
        self.positions = tuple(_cheapest_positions(program, self._live))
        self._starts = (0, *self.positions)
        self._values, self._adjoints = self._boundaries()

    def __len__(self) -> int:
        """The number of pieces."""
        return len(self._starts)

    def of(self, position: int) -> int:
        """The piece that an equation lies in."""
        return bisect.bisect_right(self._starts, position) - 1

    def recompute(self, first: int, last: int, curved: Sequence[int]) -> tuple[Values, Values]:
        """The values of some pieces, and the adjoints of some of their variables.

        Args:
          first: the first of these pieces.
          last: the piece behind the last of them.
          curved: the variables whose adjoints are wanted, if these pieces compute them.
        """
        equations = [e for k in range(first, last) for e in self._equations(k)]
        made = {v for equation in equations for v in equation.outputs}
        taps = {v: zeros_of(self._program.avals[v]) for v in curved if v in made}

        def run(taps):
            values = {**self._given, **self._values[first]}
            run_equations(equations, values, taps)
            return {v: values[v] for v in self._adjoints[last]}, values

        _, pull_back, values = jax.vjp(run, taps, has_aux=True)
        return values, pull_back(self._adjoints[last])[0]

    def _equations(self, piece: int) -> tuple[Equation, ...]:
        stop = [*self.positions, len(self._program.equations)][piece]
        return self._program.equations[self._starts[piece] : stop]

    def _boundaries(self) -> tuple[list[Values], list[Values]]:
        """The live values at each start; adjoints there, and at the end that of the output."""
        avals, output = self._program.avals, self._program.output
        ends = [*(self._live[p] for p in self.positions), (output,)]

        def run(piece: int, live: Values) -> Values:
            values = {**self._given, **live}
            run_equations(self._equations(piece), values, {})
            return {v: values[v] for v in ends[piece]}

        values: list[Values] = [{}]
        for piece in range(len(self)):
            values.append(run(piece, values[-1]))
        adjoints: list[Values] = [{output: jnp.ones_like(values.pop()[output])}]
        for piece in reversed(range(1, len(self))):
            inexact = {v: x for v, x in values[piece].items() if is_inexact(avals[v])}
            rest = {v: x for v, x in values[piece].items() if v not in inexact}

            def pull_back(moving, rest, adjoints, piece=piece):
                ends = lambda moving: {
                    v: x for v, x in run(piece, {**rest, **moving}).items() if v in adjoints
                }
                return jax.vjp(ends, moving)[1](adjoints)[0]

            adjoints.insert(0, isolated(pull_back, inexact, rest, adjoints[0]))
        return values, [{}, *adjoints]


def _live_variables(program: Program) -> list[tuple[int, ...]]:
    """By position, the variables that are computed before it and read there or behind it."""
    made: dict[int, int] = {}
    read: dict[int, int] = {program.output: len(program.equations)}
    for place, equation in enumerate(program.equations):
        made |= dict.fromkeys(equation.outputs, place)
        for variable in equation.inputs:
            read[variable] = max(place, read.get(variable, 0))
    live: list[set[int]] = [set() for _ in range(len(program.equations) + 1)]
    for variable, place in made.items():
        for position in range(place + 1, read.get(variable, place) + 1):
            live[position].add(variable)
    return [tuple(sorted(variables)) for variables in live]


def _cheapest_positions(program: Program, live: Sequence[Sequence[int]]) -> list[int]:
    """Where the program is cut so that starts and the largest piece take the least memory.

    With n pieces of total size T and starts of size w, 2 n w + T / n is least for n = √(T / 2 w).
    """
    size = lambda variables: sum(bytes_of(program.avals[v]) for v in variables)
    widths = [size(variables) for variables in live]
    sums = [0, *itertools.accumulate(size(equation.outputs) for equation in program.equations)]

    def memory(positions: Sequence[int]) -> int:
        ends = [sums[p] for p in (0, *positions, len(program.equations))]
        largest = max(stop - start for start, stop in itertools.pairwise(ends))
        return 2 * sum(widths[p] for p in positions) + largest  # values and adjoints are kept

    most = max(1, min(MAX_PIECES, len(program.equations)))
    return min((_even_positions(sums, widths, number) for number in range(1, most + 1)), key=memory)


def _even_positions(sums: Sequence[int], widths: Sequence[int], number: int) -> list[int]:
    """Cuts into a number of pieces of about equal size, at the narrowest places nearby."""
    step, found = sums[-1] / number, []
    for k in range(1, number):
        low, high = ((k + shift) * step for shift in (-SLACK, SLACK))
        start = max(bisect.bisect_left(sums, low), found[-1] + 1 if found else 1)
        stop = min(bisect.bisect_right(sums, high), len(sums) - 1)
        if start < stop:
            distance = lambda position, middle=k * step: abs(sums[position] - middle)
            found.append(min(range(start, stop), key=lambda p: (widths[p], distance(p))))
    return found
