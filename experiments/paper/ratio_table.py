"""Tables of R_med, the paper's numbers and ours side by side, a figure of the ratios, a verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from experiments.paper.comparison import Comparison, agreement, moment, rows, run_name, whole_layers
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext
from hgeo.records.layer_numbers import PARTS
from hgeo.report.figures import COLORS
from hgeo.report.tables import Table, format_number

# The most that a log axis spans if numbers between its powers of ten are labelled.
FEW_DECADES = 100.0

# By what an interval covers.
_INTERVALS = {
    "repeats and coordinates": "Intervals: 95%, by resampling repeats and sampled coordinates.",
    "coordinates": "Intervals of one repeat: 95%, by resampling the sampled coordinates alone.",
    "repeats": "Intervals: 95%, of the repeats alone (Student's t), since the sampled entries were "
    "not kept.",
    None: "Without an interval: a common start, single repeats whose entries were not kept, and "
    "ratios that are not finite.",
}


def ratio_table(
    name: str,
    title: str,
    comparisons: Sequence[Comparison],
    context: ReproductionContext,
    claim: str = "",
) -> Result:
    """The result of a table of R_med, of the paper or beyond it.

    Args:
      name: the experiment's id.
      title: of the table.
      comparisons: what it compares; the table has the paper's columns if one is the paper's.
      context: where it runs.
      claim: what the paper says of the ratios, for the verdict; empty, that most are above 1.
    """
    found = [row for comparison in comparisons for row in rows(comparison, context)]
    settings = list(dict.fromkeys(row["setting"] for row in found))
    of_paper = any(comparison.table for comparison in comparisons)
    header = _header(settings, of_paper)
    cells = [_cells(row, settings, of_paper) for row in _shown(found)]
    table = Table(title, header, cells, _notes(found, context))
    lines = [_verdict([row for row in found if row["setting"] == s], s, of_paper) for s in settings]
    claimed = claim or "the paper claims ratios above 1 but in the first layers"
    verdict = f"{claimed}. " + "; ".join(lines)
    return Result(found, table, {name: _figure(whole_layers(found))}, verdict)


def _shown(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each setting the rows of the paper's layers and their parts; all if it has none."""
    both: dict[str, set[int]] = {}
    for row in found:
        own = both.setdefault(row["setting"], set())
        own |= {row["layer"]} if row["paper_first"] is not None else set()
    of = lambda row: both[row["setting"]]
    return [r for r in found if not of(r) or {r["layer"], r["layer"] // PARTS} & of(r)]


def _header(settings: Sequence[str], of_paper: bool) -> list[str]:
    return [
        "#",
        "layer",
        *(["setting"] if len(settings) > 1 else []),
        *(["paper at"] if of_paper else []),
        "ours at",
        *(["paper: first", "second", "ratio"] if of_paper else []),
        "ours: first",
        "second",
        "ratio",
        "95%",
        "mean ratio",
        "q95 ratio",
        "95%",
        *(["same side of 1"] if of_paper else []),
    ]


def _cells(row: Mapping[str, Any], settings: Sequence[str], of_paper: bool) -> list[str]:
    """A line of the table, in the order of the header."""
    steps = dict.fromkeys((row["step"], row["step_of_second"]))
    agreed = agreement([row])
    same = "–" if not agreed["compared"] else "yes" if agreed["agree"] else "no"
    papers = [
        *(with_std(row[f"paper_{key}"]) for key in ("first", "second")),
        with_std(row["paper_ratio"], row["paper_ratio_std"]),
    ]
    return [
        str(row["layer"]),
        row["name"],
        *([row["setting"]] if len(settings) > 1 else []),
        *([row["checkpoint"]] if of_paper else []),
        row["our_checkpoint"] + (f" ({', '.join(steps)})" if "loss" in row["checkpoint"] else ""),
        *(papers if of_paper else []),
        *(with_std(row[f"ours_{k}"], row[f"ours_{k}_std"]) for k in ("first", "second")),
        with_std(row["ours_ratio"]),
        interval(row["ours_ratio_low"], row["ours_ratio_high"]),
        with_std(row["ours_mean_ratio"], row["ours_ratio_std"]),
        with_std(row["q95_ratio"]),
        interval(row["q95_ratio_low"], row["q95_ratio_high"]),
        *([same] if of_paper else []),
    ]


def with_std(value: float | None, std: float | None = None) -> str:
    """A number with its standard deviation in brackets; a dash where there is none."""
    if value is None:
        return "–"
    return format_number(value) + ("" if std is None else f" ({format_number(std)})")


def interval(low: float | None, high: float | None) -> str:
    """Both ends; a dash where there is no interval."""
    if low is None or high is None:
        return "–"
    return f"{format_number(low)} to {format_number(high)}"


def _notes(found: Sequence[Mapping[str, Any]], context: ReproductionContext) -> list[str]:
    pairs = dict.fromkeys((row["first"], row["second"]) for row in found)
    sides = "; ".join(f"first: {run_name(a)}, second: {run_name(b)}" for a, b in pairs)
    repeats = sorted({row["repeats"] for row in found})
    counts = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    notes = [
        f"R_med of two optimizers and the first's over the second's ({sides}), at "
        f"`{context.scale}` scale: means over the {counts} repeat(s) that both have, "
        "standard deviations in brackets. The ratio is that of the geometric means over the "
        "repeats; the mean ratio is that of the repeats' ratios, as the paper has it. Checkpoints "
        "are those at the same share of training, but for equal losses.",
        *(_INTERVALS[key] for key in dict.fromkeys(row["interval_covers"] for row in found)),
        "The q95 ratio is that of the 95% quantile over the median, whose bootstrap is consistent, "
        "unlike that of a maximum. A sample's R_med is lower than the layer's (experiment "
        "`extra_full`).",
    ]
    with_eps = sorted({row["eps"] for row in found} - {0.0})
    if with_eps:
        notes.append(
            f"The median of R_med has eps {with_eps[0]:g} added, since the sampled entries were "
            "not kept."
        )
    absent = {row["checkpoint"] for row in found if row["ours_ratio"] is None}
    if absent:
        notes.append(f"Without a number of ours: {', '.join(sorted(absent))}.")
    if any(row["ours_ratio"] in (0.0, np.inf) for row in found):
        notes.append(
            "inf: the median entry is zero (dead units); a ratio of 0 or inf is at the figure's "
            "edge, hollow."
        )
    return notes


def _verdict(found: Sequence[Mapping[str, Any]], setting: str, of_paper: bool) -> str:
    agreed = agreement(found)
    counted = (
        f"{agreed['above']} of {agreed['known']} (layer, checkpoint), median {agreed['median']:.2f}"
    )
    parts = [f"ours are above 1 in {counted}"]
    if agreed["paper_known"]:
        counted = f"{agreed['paper_above']} of {agreed['paper_known']}"
        parts.append(f"the paper's in {counted}, median {agreed['paper_median']:.2f}")
    if agreed["compared"]:
        parts.append(f"the same side of 1 in {agreed['agree']} of {agreed['compared']}")
        parts.append(
            "Spearman's ρ with the paper's over layers and checkpoints: "
            f"{agreed['first']:.2f} (first's R_med), {agreed['second']:.2f} (second's), "
            f"{agreed['ratio']:.2f} (ratio)"
        )
    elif any(row["paper_second"] is not None for row in found):
        parts.append("the paper has no such runs")
    elif of_paper:
        parts.append("the model's layers are not the paper's, so that no layer is compared")
    return (f"{setting}: " if setting else "") + ", ".join(parts)


def _figure(found: Sequence[Mapping[str, Any]]) -> Figure:
    """The ratio against the layer: a row of panels for each setting, a panel a checkpoint."""
    groups = list(dict.fromkeys(row["setting"] for row in found))
    moments = list(dict.fromkeys((r["setting"], r["checkpoint"]) for r in found if _apart(r)))
    columns = max((sum(g == s for g, _ in moments) for s in groups), default=1) or 1
    size = (3.4 * columns + 0.6, 2.5 * len(groups) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(groups), columns, sharey=True, sharex=True, squeeze=False)
    for line, group in zip(panels, groups, strict=True):
        own = [checkpoint for setting, checkpoint in moments if setting == group]
        for axes, checkpoint in zip(line, own, strict=False):
            drawn = [r for r in found if (r["setting"], r["checkpoint"]) == (group, checkpoint)]
            _panel(axes, drawn)
            first, second = (run_name(drawn[0][key]) for key in ("first", "second"))
            heading = f"{group}: " if group not in ("", second) else ""
            axes.set_title(f"{heading}{first} / {second}, {moment(drawn[0])}", fontsize=8)
        for axes in line[len(own) :]:
            axes.set_visible(False)
    figure.supxlabel("layer", fontsize=9)
    figure.supylabel("ratio of R_med (log scale)", fontsize=9)
    _label_numbers(figure.axes)
    shown: dict[str, Any] = {}  # not every panel has numbers of the paper
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=3, fontsize=8)
    return figure


def _label_numbers(panels: Sequence[Any]) -> None:
    """Plain numbers at the powers of ten, and between them where there are few of those."""
    low, high = panels[0].get_ylim()
    for axes in panels:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        if high / low < FEW_DECADES:
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")


def _panel(axes, drawn: Sequence[Mapping[str, Any]]) -> None:
    axes.axhline(1, color="black", linewidth=0.8)
    for key, color, marker, shift in (
        ("ours", COLORS[1], "s", 0.12),
        ("paper", COLORS[0], "o", -0.12),
    ):
        known = [row for row in drawn if row[f"{key}_ratio"] is not None]
        own = [row for row in known if 0 < row[f"{key}_ratio"] < np.inf]
        look = {"marker": marker, "color": color, "markersize": 4}
        for row in known:  # a median of zero: at the edge, hollow
            if row not in own:
                at = (row["layer"] + shift, 0 if row[f"{key}_ratio"] == 0 else 1)
                where = {"transform": axes.get_xaxis_transform(), "clip_on": False}
                axes.plot(*at, fillstyle="none", linestyle="none", **look, **where)
        if not own:
            continue
        value = np.array([row[f"{key}_ratio"] for row in own])
        ends = np.array([_ends(row, key) for row in own])
        # Downwards a bar ends where a log axis still shows it, upwards where it is finite.
        low = np.minimum(value - ends[:, 0], 0.9 * value)
        high = np.where(np.isfinite(ends[:, 1]), ends[:, 1] - value, 0.0)
        bars = np.array([low, high]) if low.any() or high.any() else None
        x = [row["layer"] + shift for row in own]
        axes.errorbar(x, value, bars, label=key, linestyle="none", elinewidth=1, **look)
    if all(row["ours_ratio"] is None for row in drawn):
        middle = {"transform": axes.transAxes, "ha": "center", "fontsize": 8}
        axes.text(0.5, 0.25, "reached by no pair of runs", **middle)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8, which="both")
    axes.grid(alpha=0.3)


def _ends(row: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Of our interval; of the paper's ratio, one standard deviation on both sides."""
    value = row[f"{key}_ratio"]
    if key == "paper":
        std = row["paper_ratio_std"] or 0.0
        return value - std, value + std
    known = row["ours_ratio_low"] is not None
    return (row["ours_ratio_low"], row["ours_ratio_high"]) if known else (value, value)


def _apart(row: Mapping[str, Any]) -> bool:
    return not row["step"] == row["step_of_second"] == "0"
