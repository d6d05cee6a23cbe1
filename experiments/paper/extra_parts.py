"""Beyond the paper: R_med of a fused in-projection, within Q, K and V and between them.

The paper counts an attention block's in-projection as one layer. Its R_med mixes two things: how
uneven the curvature is within the columns of queries, keys and values, and how far the three lie
apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side
from experiments.paper.pairing import Probed, by_repeat, geometric_mean
from experiments.paper.ratio_table import interval
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, train
from experiments.paper.verdict_measures import WITHIN
from hgeo.optimizers import label
from hgeo.records.layer_numbers import PARTS
from hgeo.report.figures import COLORS, MARKERS
from hgeo.report.tables import Table, format_number

SIDES = (Side("translation", "sgdm"), Side("translation", "adam"))
FUSED, BETWEEN = "fused", "between"


def run(context: ReproductionContext) -> Result:
    """R_med of SGD+M and Adam in each part, and the ratio of the parts' median entries."""
    trained = [train(side.runs, context) for side in SIDES]
    probed = {
        statistic: [
            Probed(runs.of(side.optimizer), statistic)
            for runs, side in zip(trained, SIDES, strict=True)
        ]
        for statistic in ("r_med", "median_abs")
    }
    rows = [
        row
        for step in trained[0].config.probe.steps
        for layer in _fused(probed["r_med"][0].layers)
        for row in _rows(probed, step, layer)
    ]
    header = ["#", "layer", "part", "step", "SGD+M", "Adam", "ratio", "95%"]
    cells = [
        [str(row["layer"]), row["name"], row["setting"], str(row["step"])]
        + [format_number(row[key]) for key in ("first_value", "second_value", "ours_ratio")]
        + [interval(row["ours_ratio_low"], row["ours_ratio_high"])]
        for row in rows
        if row["step"]
    ]
    notes = [
        f"Geometric means over {rows[0]['repeats']} repeat(s); 95% intervals of the ratio, over "
        "the repeats. Q, K, V and fused: R_med. Between: the largest of the three parts' median "
        "entries over the smallest."
    ]
    table = Table("Fused in-projections: within Q, K and V, and between them", header, cells, notes)
    return Result(rows, table, {"extra_parts": _figure(rows, probed)}, _summary(rows))


def _fused(layers: dict[int, str]) -> list[int]:
    return sorted({number // PARTS for number in layers if number >= PARTS} & layers.keys())


def _rows(probed: dict[str, list[Probed]], step: int, layer: int) -> list[dict[str, Any]]:
    parts = [PARTS * layer + k for k in range(1, len(WITHIN) + 1)]
    name = probed["r_med"][0].layers[layer].removesuffix("/kernel")
    both = set.intersection(*(set(side.values(step, layer)) for side in probed["r_med"]))
    if not both:
        return []
    of = lambda side, number: _array(side.values(step, number), both)
    values = {
        part: [of(side, number) for side in probed["r_med"]]
        for part, number in zip((FUSED, *WITHIN), (layer, *parts), strict=True)
    }
    medians = [np.stack([of(side, number) for number in parts]) for side in probed["median_abs"]]
    with np.errstate(divide="ignore", invalid="ignore"):
        values[BETWEEN] = [own.max(axis=0) / own.min(axis=0) for own in medians]
    return [_row(part, name, step, layer, *sides) for part, sides in values.items()]


def _array(values: Mapping[int, float], repeats: Iterable[int]) -> np.ndarray:
    return np.array([values[repeat] for repeat in sorted(repeats)])


def _row(
    part: str, name: str, step: int, layer: int, first: np.ndarray, second: np.ndarray
) -> dict[str, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, low, high = geometric_mean(first / second)
    return {
        "setting": part,
        "checkpoint": f"step {step}",
        "step": step,
        "step_of_second": step,
        "layer": layer,
        "name": name,
        "first": SIDES[0].optimizer,
        "second": SIDES[1].optimizer,
        "repeats": len(first),
        "first_value": geometric_mean(first)[0],
        "second_value": geometric_mean(second)[0],
        "ours_ratio": ratio,
        "ours_ratio_low": low,
        "ours_ratio_high": high,
        "first_by_repeat": by_repeat(first),
        "second_by_repeat": by_repeat(second),
    }


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    later = [row for row in rows if row["step"]]
    counts = []
    for part in (*WITHIN, FUSED):
        ratios = np.array([row["ours_ratio"] for row in later if row["setting"] == part])
        counts.append(f"{part} {(ratios > 1).sum()} of {len(ratios)}")
    apart = [
        format_number(np.median([r[key] for r in later if r["setting"] == BETWEEN]))
        for key in ("first_value", "second_value")
    ]
    return (
        f"SGD+M's R_med is above Adam's in {', '.join(counts)} (layer, step); the largest of the "
        "median entries of Q, K and V is, in the median over layers and steps, "
        f"{apart[0]} times the smallest under SGD+M and {apart[1]} times under Adam"
    )


def _figure(rows: Sequence[dict[str, Any]], probed: dict[str, list[Probed]]) -> Figure:
    layers = list(dict.fromkeys((row["layer"], row["name"]) for row in rows))
    figure = Figure(figsize=(3.0 * len(layers), 5.6), layout="constrained")
    panels = figure.subplots(2, len(layers), sharex=True, sharey="row", squeeze=False)
    for (layer, name), (upper, lower) in zip(layers, panels.T, strict=True):
        for k, (side, key) in enumerate(zip(SIDES, ("first_value", "second_value"), strict=True)):
            look = {"color": COLORS[k], "markersize": 4}
            for marker, part in zip(MARKERS, (FUSED, *WITHIN), strict=False):
                own = [r for r in rows if (r["layer"], r["setting"]) == (layer, part)]
                steps = [row["step"] for row in own]
                style = "-" if part == FUSED else ":"
                text = f"{label(side.optimizer)}, {part}"
                upper.plot(steps, [r[key] for r in own], style, marker=marker, label=text, **look)
                if part == FUSED:
                    continue
                number = PARTS * layer + 1 + WITHIN.index(part)
                found = [probed["median_abs"][k].values(step, number) for step in steps]
                medians = [geometric_mean(_array(values, values))[0] for values in found]
                lower.plot(steps, medians, style, marker=marker, **look)
        upper.set_title(f"{layer}: {name}", fontsize=8)
        for axes in (upper, lower):
            axes.set(yscale="log")
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=8)
    panels[0, 0].set_ylabel("R_med (log scale)")
    panels[1, 0].set_ylabel("median |H_ii| (nats, log scale)")
    figure.supxlabel("step", fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=max(2, len(layers)), fontsize=8
    )
    return figure
