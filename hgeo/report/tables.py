"""Tables: R_med of two optimizers and their ratio by layer and step; held-out metrics."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hgeo.optimizers import label
from hgeo.records.layer_numbers import whole_layers
from hgeo.records.run_records import RunRecords
from hgeo.report.text_table import WIDTH, Table

STATISTIC = "r_med"

# The terminal shortens longer names, to leave room for columns.
LONG_NAME = 48

# Statistics that get a table if they were recorded; False: a ratio of two values has no meaning.
TITLES = {
    "r_med": ("R_med", True),
    "r_diag_mean": ("mean r_diag", True),
    "r_diag_median": ("median r_diag", True),
    "r_diag_across_mean": ("mean r_diag across the layers", True),
    "r_diag_across_median": ("median r_diag across the layers", True),
    "rho_gradient": ("Spearman's ρ of |g| with |H_ii|", False),
    "rho_adaptive": ("Spearman's ρ of |u| with |H_ii|", False),
    "preconditioned_r_med": ("R_med that the optimizer sees", True),
    "gauss_newton_r_med": ("R_med of the Gauss-Newton matrix", True),
    "fisher_r_med": ("R_med of the empirical Fisher matrix", True),
    "full_r_med": ("R_med of the whole layer", True),
    "rank": ("rank that holds the share of ‖W‖²", True),
    "r_u": ("R_u", True),
    "r_v": ("R_v", True),
    "smoothness": ("largest |eigenvalue|", True),
    "trace": ("trace", False),
    "range_condition_number": ("condition number on the range", True),
}


At = int | Mapping[int, int]
ByRepeat = dict[int, float]


class StatisticTable:
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

    def values(self, optimizer: str, at: At, layer_number: int) -> ByRepeat:
        """The statistic in every repeat that has it, at one step or at each repeat's own."""
        places = [(*place, layer_number) for place in self._places(optimizer, at)]
        return {place[1]: self._values[place] for place in places if place in self._values}

    def medians(self, optimizer: str, at: At) -> ByRepeat:
        """The median over the whole layers whose value is no NaN, in every repeat that has one."""
        found = {}
        whole = whole_layers(self.layers)
        for place in self._places(optimizer, at):
            values = [self._values.get((*place, number), np.nan) for number in whole]
            if not np.isnan(values).all():
                found[place[1]] = float(np.nanmedian(values))
        return found

    def losses(self, optimizer: str, at: At) -> ByRepeat:
        """The probe batch's loss in every repeat that has it."""
        places = self._places(optimizer, at)
        return {place[1]: self._losses[place] for place in places if place in self._losses}

    def _places(self, optimizer: str, at: At) -> list[tuple[str, int, int]]:
        steps = dict.fromkeys(self._repeats, at) if isinstance(at, int) else at
        return [(optimizer, repeat, step) for repeat, step in sorted(steps.items())]


def compare(
    records: Sequence[RunRecords],
    pair: tuple[str, str],
    steps: Iterable[int],
    statistic: str = STATISTIC,
    width: float = WIDTH,
) -> list[Table]:
    """Tables of a statistic for two optimizers and of the first's over the second's, step by step.

    Means over the repeats, with the standard deviation in brackets if there are several; the ratio
    is the mean of each repeat's. A step at which both have the same numbers (the common start) has
    one column. Ratios above 1 are counted over whole layers. Columns are divided into tables that
    are at most `width` wide.
    """
    measured = StatisticTable(records, statistic)
    if not measured.layers:
        return []
    name, ratio = TITLES[statistic]
    groups = [_columns(measured, pair, str(step), (step, step), ratio) for step in steps]
    both = f"{label(pair[0])} and {label(pair[1])}"
    title = f"{name}: {both}" if statistic != STATISTIC else f"R_med of {both}"
    title += ", and their ratio" if ratio else ""
    return _laid_out(title, measured, "step", groups, records, width)


def compare_at_losses(
    records: Sequence[RunRecords],
    pair: tuple[str, str],
    losses: Iterable[float],
    width: float = WIDTH,
) -> list[Table]:
    """The same tables at the first steps at which both reach each of the given training losses.

    The row `loss` holds the losses of the probe batch, which can differ.
    """
    measured = StatisticTable(records)
    if not measured.layers:
        return []
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
    return _laid_out(title, measured, "loss", groups, records, width, notes)


def _laid_out(
    title: str,
    measured: StatisticTable,
    unit: str,
    groups: list[list[list[str]]],
    records: Sequence[RunRecords],
    width: float,
    notes: Sequence[str] = (),
) -> list[Table]:
    """Groups of columns divided into tables that fit `width`, each with the layers' names."""
    names = [[str(n), name.removesuffix("/kernel")] for n, name in measured.layers.items()]
    names = [["#", "layer"], *names, ["", "loss"], ["", "step"], ["", "layers with ratio > 1"]]
    tables = []
    while groups:
        columns: list[list[str]] = []
        belong = ["", ""]
        while groups and (not columns or _width(names, columns + groups[0]) <= width):
            group = groups.pop(0)
            heading, colon, _ = group[0][0].partition(":")
            belong += [f"{unit} {heading}" if colon else ""] * len(group)
            columns += group
        rows = [name + [column[k] for column in columns] for k, name in enumerate(names)]
        rows = [row for row in rows if any(row[2:])]
        more = [*notes, *divergence_notes(records)]
        tables.append(Table(title, rows[0], rows[1:], more, belong))
    return tables


def held_out(records: Sequence[RunRecords]) -> list[Table]:
    """A table of the held-out metrics, means over the repeats; none without evaluations."""
    values: dict[tuple[int, str, str], list[float]] = {}
    for run in records:
        for row in run.evaluation_rows():
            values.setdefault((row.step, row.optimizer, row.metric), []).append(row.value)
    if not values:
        return []
    metrics = list(dict.fromkeys(metric for *_, metric in values))
    places = dict.fromkeys((step, optimizer) for step, optimizer, _ in values)
    rows = [
        [str(step), label(name), *(mean_text(values.get((step, name, m), [])) for m in metrics)]
        for step, name in sorted(places, key=lambda place: place[0])
    ]
    return [Table("Held-out examples", ["step", "optimizer", *metrics], rows, [])]


def divergence_notes(records: Iterable[RunRecords]) -> list[str]:
    """A line for each run that diverged or has a Hessian entry that is not finite."""
    notes = []
    for run in records:
        if run.diverged_at is not None:
            row = run.losses[run.diverged_at]
            notes.append(
                f"{label(row.optimizer)}, repeat {row.repeat}: diverged at step {row.step} "
                f"({run.divergence})"
            )
        entries = run.not_finite_entries
        if entries:
            step, layer, number, total = entries[0]
            row = run.geometry[step][0]
            more = f", and some in {len(entries) - 1} other places" if len(entries) > 1 else ""
            notes.append(
                f"{label(row.optimizer)}, repeat {row.repeat}: {number} of {total} Hessian entries "
                f"of {layer} at step {step} are not finite{more}"
            )
    return notes


def _columns(
    measured: StatisticTable,
    pair: tuple[str, str],
    heading: str,
    at: tuple[At, At],
    with_ratio: bool = True,
) -> list[list[str]]:
    """The columns of one step or loss, each from its header to its last row."""
    both = list(zip(pair, at, strict=True))
    first, second = ([measured.values(*run, n) for n in measured.layers] for run in both)
    losses = [measured.losses(*run) for run in both]
    steps = ["" if isinstance(a, int) else mean_text(list(a.values()), whole=True) for a in at]
    texts = [
        [*(mean_text([*values.values()]) for values in (*own, loss)), step, ""]
        for own, loss, step in zip((first, second), losses, steps, strict=True)
    ]
    if any(first) and at[0] == at[1] and losses[0] == losses[1] and first == second:
        return [[f"step {heading}", *texts[0]]]
    columns = [[f"{heading}:{label(pair[0])}", *texts[0]], [label(pair[1]), *texts[1]]]
    if not with_ratio:
        return columns
    ratios = [ratio_of(a, b) for a, b in zip(first, second, strict=True)]
    whole = whole_layers(measured.layers)
    of_whole = [ratio for n, ratio in zip(measured.layers, ratios, strict=True) if n in whole]
    known = [ratio for ratio in of_whole if len(ratio)]
    above = f"{sum(ratio.mean() > 1 for ratio in known)} of {len(known)}"
    return [*columns, ["ratio", *map(mean_text, ratios), "", "", above]]


def ratio_of(first: ByRepeat, second: ByRepeat) -> np.ndarray:
    """The first over the second in every repeat that both have."""
    both = [repeat for repeat in first if repeat in second]
    above, below = (np.array([side[repeat] for repeat in both]) for side in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        return above / below


def mean_text(values: Sequence[float] | np.ndarray, whole: bool = False) -> str:
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
    """Of the columns in a terminal, in which long names are shortened."""
    numbers, layers = zip(*names, strict=True)
    widths = [max(map(len, part)) + 1 for part in (numbers, *columns)]
    return sum(widths) + min(LONG_NAME, max(map(len, layers)))
