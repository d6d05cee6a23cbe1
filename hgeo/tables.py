"""Tables: R_med of two optimizers and their ratio by layer and step; held-out metrics."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hgeo.optimizers import label
from hgeo.records import RunRecords

WIDTH = 100
STATISTIC = "r_med"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
      title: what it shows.
      header: names of the columns.
      rows: their cells; the first two columns are a number and a name.
      notes: lines to be read with it.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [
            f"**{self.title}**",
            "",
            "| " + " | ".join(self.header) + " |",
            "| ---: | --- |" + " ---: |" * (len(self.header) - 2),
            *("| " + " | ".join(row) + " |" for row in self.rows),
            *(f"\n{note}" for note in self.notes),
        ]
        return "\n".join(lines) + "\n"

    def text(self) -> str:
        """The table for a terminal, at most `WIDTH` columns wide where it was made by `compare`."""
        cells = [self.header, *self.rows]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.header))]
        align = [str.rjust, str.ljust, *[str.rjust] * (len(widths) - 2)]
        lines = [
            " ".join(f(cell, w) for f, cell, w in zip(align, row, widths, strict=True)).rstrip()
            for row in cells
        ]
        rule = "─" * max(map(len, lines))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, *self.notes]) + "\n"


At = int | Mapping[int, int]


class Measured:
    """Values of one statistic in the records of several runs, by run, repeat, step and layer.

    Attributes:
      layers: their names by number.
      steps: all steps with a value.
    """

    def __init__(self, records: Iterable[RunRecords], statistic: str = STATISTIC):
        """Sorts the rows of `records`."""
        self.layers: dict[int, str] = {}
        self._values: dict[tuple[str, int, int, int], float] = {}
        self._losses: dict[tuple[str, int, int], float] = {}
        for run in records:
            for step, rows in sorted(run.geometry.items()):
                for row in rows:
                    if row.statistic == statistic:
                        self.layers[row.layer_number] = row.layer
                        place = (row.optimizer, row.repeat, step)
                        self._values[*place, row.layer_number] = row.value
                        self._losses[place] = row.loss
        self.steps = sorted({step for _, _, step in self._losses})
        self._repeats = sorted({repeat for _, repeat, _ in self._losses})

    def values(self, optimizer: str, at: At, layer_number: int) -> np.ndarray:
        """The statistic in every repeat that has it, at one step or at each repeat's own."""
        places = [(*place, layer_number) for place in self._places(optimizer, at)]
        return np.array([self._values[place] for place in places if place in self._values])

    def losses(self, optimizer: str, at: At) -> np.ndarray:
        """The probe batch's loss in every repeat that has it."""
        places = self._places(optimizer, at)
        return np.array([self._losses[place] for place in places if place in self._losses])

    def _places(self, optimizer: str, at: At) -> list[tuple[str, int, int]]:
        steps = dict.fromkeys(self._repeats, at) if isinstance(at, int) else at
        return [(optimizer, repeat, step) for repeat, step in sorted(steps.items())]


def compare(
    records: Sequence[RunRecords], pair: tuple[str, str], steps: Iterable[int]
) -> list[Table]:
    """Tables of R_med for two optimizers and of the first's over the second's, step by step.

    Means over the repeats, with the standard deviation in brackets where there are several; the
    ratio is that of each repeat. A step at which both have the same numbers (the common start) has
    one column. As many tables as fit `WIDTH`.
    """
    measured = Measured(records)
    groups = [_columns(measured, pair, str(step), (step, step)) for step in steps]
    title = f"R_med of {label(pair[0])} and {label(pair[1])}, and their ratio"
    return _laid_out(title, measured, groups, records)


def compare_at_losses(
    records: Sequence[RunRecords], pair: tuple[str, str], losses: Iterable[float]
) -> list[Table]:
    """The same tables where both first came down to each of the given training losses.

    The row `loss` holds those of the probe batch, and tells how far they still differ.
    """
    measured = Measured(records)
    groups, notes = [], []
    for loss in losses:
        at = []
        for name in pair:
            rows = [
                run.iterates["same_loss", loss]
                for run in records
                if ("same_loss", loss) in run.iterates
            ]
            rows = [row for row in rows if row.optimizer == name]
            at.append({row.repeat: row.step for row in rows if row.step >= 0})
            notes += [
                f"{label(name)}, repeat {row.repeat}: a loss of {loss:g} was never reached, the "
                f"lowest is {format_number(row.loss)}"
                for row in rows
                if row.step < 0
            ]
        groups.append(_columns(measured, pair, f"{loss:g}", (at[0], at[1])))
    title = f"R_med of {label(pair[0])} and {label(pair[1])} at equal training loss"
    return _laid_out(title, measured, groups, records, notes)


def _laid_out(
    title: str,
    measured: Measured,
    groups: list[list[list[str]]],
    records: Sequence[RunRecords],
    notes: Sequence[str] = (),
) -> list[Table]:
    """Groups of columns in as many tables as fit `WIDTH`, the layers' names before each."""
    names = [[str(n), name.removesuffix("/kernel")] for n, name in measured.layers.items()]
    names = [["#", "layer"], *names, ["", "loss"], ["", "step"], ["", "layers with ratio > 1"]]
    tables = []
    while groups:
        columns: list[list[str]] = []
        while groups and (not columns or _width(names, columns + groups[0]) <= WIDTH):
            columns += groups.pop(0)
        rows = [name + [column[k] for column in columns] for k, name in enumerate(names)]
        rows = [row for row in rows if any(row[2:])]
        tables.append(Table(title, rows[0], rows[1:], [*notes, *divergence_notes(records)]))
    return tables


def held_out(records: Sequence[RunRecords]) -> list[Table]:
    """A table of the held-out metrics, means over the repeats; none where nothing was evaluated."""
    values: dict[tuple[int, str, str], list[float]] = {}
    for run in records:
        for row in run.evaluation_rows():
            values.setdefault((row.step, row.optimizer, row.metric), []).append(row.value)
    if not values:
        return []
    metrics = list(dict.fromkeys(metric for *_, metric in values))
    places = dict.fromkeys((step, optimizer) for step, optimizer, _ in values)
    rows = [
        [str(step), label(name), *(_mean(values.get((step, name, m), [])) for m in metrics)]
        for step, name in sorted(places, key=lambda place: place[0])
    ]
    return [Table("Held-out examples", ["step", "optimizer", *metrics], rows, [])]


def divergence_notes(records: Iterable[RunRecords]) -> list[str]:
    """A line for each run that diverged."""
    notes = []
    for run in records:
        if run.diverged_at is not None:
            row = run.losses[run.diverged_at]
            notes.append(
                f"{label(row.optimizer)}, repeat {row.repeat}: diverged at step {row.step} "
                f"(loss {row.loss})"
            )
    return notes


def _columns(
    measured: Measured, pair: tuple[str, str], heading: str, at: tuple[At, At]
) -> list[list[str]]:
    """The columns of one step or loss, each from its header to its last row."""
    both = list(zip(pair, at, strict=True))
    first, second = ([measured.values(*run, n) for n in measured.layers] for run in both)
    losses = [measured.losses(*run) for run in both]
    steps = ["" if isinstance(a, int) else _mean(list(a.values()), whole=True) for a in at]
    if (
        at[0] == at[1]
        and np.array_equal(losses[0], losses[1])
        and all(map(np.array_equal, first, second))
    ):
        return [[f"step {heading}", *map(_mean, first), _mean(losses[0]), steps[0], ""]]
    ratios = [_ratio(a, b) for a, b in zip(first, second, strict=True)]
    known = [ratio for ratio in ratios if len(ratio)]
    above = f"{sum(ratio.mean() > 1 for ratio in known)} of {len(known)}"
    return [
        [f"{heading}:{label(pair[0])}", *map(_mean, first), _mean(losses[0]), steps[0], ""],
        [label(pair[1]), *map(_mean, second), _mean(losses[1]), steps[1], ""],
        ["ratio", *map(_mean, ratios), "", "", above],
    ]


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    repeats = min(len(first), len(second))
    with np.errstate(divide="ignore", invalid="ignore"):
        return first[:repeats] / second[:repeats]


def _mean(values: Sequence[float] | np.ndarray, whole: bool = False) -> str:
    """The mean, and the standard deviation in brackets where there are several values."""
    if not np.size(values):
        return "–"
    text = "{:.0f}".format if whole else format_number
    with np.errstate(invalid="ignore"):  # infinite values have no deviation
        deviation = text(float(np.std(values, ddof=1))) if np.size(values) > 1 else ""
    return text(float(np.mean(values))) + (f" ({deviation})" if deviation else "")


def format_number(value: float) -> str:
    """Three significant digits, without an exponent from 0.001 to 99,999."""
    if not np.isfinite(value) or value == 0:
        return str(value)
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{digits}f}" if 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def _width(names: list[list[str]], columns: list[list[str]]) -> int:
    parts = [*zip(*names, strict=True), *columns]
    return sum(max(map(len, part)) + 1 for part in parts) - 1
