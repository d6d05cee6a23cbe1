"""A table as text: in Markdown, and for a terminal."""

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 100

# The longest cells of a table that is too wide: of the first column, of the names in the second,
# and of the others. The first two cells and any other cell of a row fit `WIDTH`.
FIRST, NAME = 20, 32
OTHER = WIDTH - FIRST - NAME - 2

SHORTENED = "…: the middle of a name or a number too long for a terminal; the files have all of it"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
      title: what it shows.
      header: names of the columns.
      rows: their cells; the first two columns are a number and a name.
      notes: lines to be read with it.
      groups: the group of each column, "" for none; empty where there are no groups. The header
        has a group's name before a colon, once.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    groups: Sequence[str] = ()

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [
            f"**{self.title}**",
            "",
            _markdown_row(self.header),
            "| ---: | --- |" + " ---: |" * (len(self.header) - 2),
            *map(_markdown_row, self.rows),
            *(f"\n{note}" for note in self.notes),
        ]
        return "\n".join(lines) + "\n"

    def text(self) -> str:
        """The table for a terminal, at most `WIDTH` columns wide."""
        return _lay_out(self)


def _lay_out(table: Table) -> str:
    """The lines of a table, none longer than `WIDTH`.

    Names are shortened in the middle first. If that is not enough, the columns after the second are
    divided into blocks, each with the first two columns.
    """
    cells = [table.header, *table.rows]
    spare = WIDTH - _total(cells) + max(len(row[1]) for row in cells)
    if spare >= NAME:
        limits = [WIDTH, spare, *[WIDTH] * (len(table.header) - 2)]
    else:
        limits = [FIRST, NAME, *[OTHER] * (len(table.header) - 2)]
    shown = [[shorten(cell, n) for cell, n in zip(row, limits, strict=True)] for row in cells]
    lines = []
    for first, block in _blocks(shown):
        of = table.groups[first] if first > 2 and table.groups else ""
        continued = f" (continued{of and f', {of}'})" if first > 2 else ""
        lines += textwrap.wrap(table.title + continued, WIDTH)
        lines += _aligned(block)
    more = [SHORTENED] if shown != cells else []
    lines += [line for note in [*table.notes, *more] for line in textwrap.wrap(note, WIDTH)]
    return "\n".join(lines) + "\n"


def shorten(text: str, length: int) -> str:
    """The text, with `…` for its middle where it has more than `length` characters."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def _blocks(cells: list[list[str]]) -> list[tuple[int, list[list[str]]]]:
    """The columns in as few blocks as fit, each with the first two and its first column's index."""
    last = len(cells[0])
    blocks, first = [], 2
    for end in range(3, last + 1):
        if _total(_columns(cells, first, end)) > WIDTH:
            blocks.append((first, _columns(cells, first, end - 1)))
            first = end - 1
    return [*blocks, (first, _columns(cells, first, last))]


def _columns(cells: list[list[str]], first: int, end: int) -> list[list[str]]:
    return [[*row[:2], *row[first:end]] for row in cells]


def _aligned(cells: list[list[str]]) -> list[str]:
    widths = _widths(cells)
    align = [str.rjust, str.ljust, *[str.rjust] * (len(widths) - 2)]
    lines = [
        " ".join(f(cell, w) for f, cell, w in zip(align, row, widths, strict=True)).rstrip()
        for row in cells
    ]
    rule = "─" * max(map(len, lines))
    return [rule, lines[0], rule, *lines[1:], rule]


def _widths(cells: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _total(cells: list[list[str]]) -> int:
    widths = _widths(cells)
    return sum(widths) + len(widths) - 1


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
