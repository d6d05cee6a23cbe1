"""The view of a network layer by layer: every recorded statistic at every step, as data and HTML.

The page shows a statistic at a step as a table. Its script changes statistic and step, and draws a
chosen layer over the steps.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from hgeo.optimizers import label
from hgeo.records.run_records import RunRecords
from hgeo.report.colors import Scale
from hgeo.report.figures import COLORS, MARKERS, loss_curve, smooth
from hgeo.report.html import breakable, embedded_json
from hgeo.report.tables import STATISTIC, TITLES, StatisticTable, format_number, mean_text, ratio_of

MEDIAN = "median over the layers (NaN left out)"

# The most points of a loss curve: what a screen can show.
POINTS = 200

Cell = tuple[float | str, str, str]


def layer_view(
    records: Sequence[RunRecords], optimizers: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The view's data, in JSON's types: values, their texts and colours, and loss curves.

    Args:
      records: of all runs.
      optimizers: of the columns, in order.
      pairs: of the columns of ratios, the first over the second.

    Returns:
      `layers`, `columns`, `statistics` and `losses`. A statistic's `cells` are by step, layer (the
      last is the median over layers) and column; each is (value, text, colour), a value that is not
      finite as JavaScript's `Number` reads it.
    """
    measured = {name: StatisticTable(records, name) for name in TITLES}
    measured = {name: found for name, found in measured.items() if found.layers}
    layers = {n: layer for found in measured.values() for n, layer in found.layers.items()}
    names = [[str(n), layers[n].removesuffix("/kernel")] for n in sorted(layers)]
    columns = [
        {"name": label(name), "color": COLORS[k % len(COLORS)], "marker": MARKERS[k % len(MARKERS)]}
        for k, name in enumerate(optimizers)
    ]
    columns += [{"name": f"{label(a)} / {label(b)}", "ratio": True} for a, b in pairs]
    return {
        "layers": [*names, ["", MEDIAN]],
        "columns": columns,
        "statistics": [
            _statistic(name, found, sorted(layers), optimizers, pairs)
            for name, found in measured.items()
        ],
        "losses": [curve for run in records for curve in _loss(run, optimizers)],
    }


def html_layer_view(view: dict[str, Any]) -> str:
    """The view in HTML: R_med at the last step, and the data for the page's script."""
    statistics = view["statistics"]
    if not statistics:
        return "<p>No statistic of a layer has been recorded.</p>"
    chosen = next((s for s in statistics if s["name"] == STATISTIC), statistics[0])
    head = "".join(
        f'<th scope="col" class="number{" ratio" if "ratio" in column else ""}">'
        f"{html.escape(column['name'])}</th>"
        for column in view["columns"]
    )
    rows = [
        f'<tr data-layer="{k}"><td class="number">{html.escape(number)}</td>'
        f'<td class="text">{breakable(name)}</td>{_html_cells(cells)}</tr>'
        for k, ((number, name), cells) in enumerate(
            zip(view["layers"], chosen["cells"][-1], strict=True)
        )
    ]
    return _TEMPLATE.format(
        caption=html.escape(f"{chosen['title']} at step {chosen['steps'][-1]}"),
        head=head,
        rows="\n".join(rows[:-1]),
        median=rows[-1],
        data=embedded_json("layer-data", view),
    )


_TEMPLATE = """<div class="layers">
<form class="controls" hidden>
<label>Statistic <select id="statistic"></select></label>
<label>Step <input id="step" type="range" min="0" step="1"><output for="step"></output></label>
<label>Layer drawn <select id="layer"></select></label>
</form>
<div class="columns">
<div><div class="scroll" tabindex="0" role="region" aria-label="values by layer">
<table class="sortable" id="layer-table"><caption>{caption}</caption>
<thead><tr><th scope="col" class="number">#</th><th scope="col" class="text">layer</th>
{head}</tr></thead>
<tbody>
{rows}
</tbody>
<tfoot>
{median}
</tfoot></table></div>
<div id="legend" hidden></div></div>
<figure id="drawn" hidden><svg role="img" viewBox="0 0 440 400"></svg>
<figcaption class="save"><a class="svg" download="layer.svg">save SVG</a>
<a class="png" download="layer.png">save PNG</a></figcaption></figure>
</div>
{data}
</div>"""


def _html_cells(cells: Sequence[Cell]) -> str:
    return "".join(
        f'<td class="number" style="background:{color or "none"}">{html.escape(text)}</td>'
        for _, text, color in cells
    )


def _statistic(
    name: str,
    measured: StatisticTable,
    layers: Sequence[int],
    optimizers: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    title, has_ratio = TITLES[name]
    rows = [*layers, None]  # None is the median over layers
    at = lambda optimizer, step, layer: (
        measured.medians(optimizer, step)
        if layer is None
        else measured.values(optimizer, step, layer)
    )
    values = [
        [[[*at(o, step, n).values()] for o in optimizers] for n in rows] for step in measured.steps
    ]
    ratios = [
        [
            [ratio_of(at(a, step, n), at(b, step, n)) if has_ratio else () for a, b in pairs]
            for n in rows
        ]
        for step in measured.steps
    ]
    scale = Scale(_means(values), is_logarithmic=has_ratio, is_diverging=not has_ratio)
    ratio_scale = Scale(_means(ratios), is_logarithmic=True, is_diverging=True)
    cells = [
        [
            [*(_cell(v, scale) for v in own), *(_cell(v, ratio_scale) for v in compared)]
            for own, compared in zip(*both, strict=True)
        ]
        for both in zip(values, ratios, strict=True)
    ]
    return {
        "name": name,
        "title": title,
        "logarithmic": has_ratio,
        "steps": measured.steps,
        "cells": cells,
        "legends": [
            _legend(title, scale),
            *([_legend("ratio", ratio_scale)] if has_ratio and pairs else []),
        ],
    }


def _means(values: list[list[list[Any]]]) -> list[float]:
    with np.errstate(invalid="ignore"):
        return [float(np.mean(v)) for step in values for row in step for v in row if len(v)]


def _cell(values: Any, scale: Scale) -> Cell:
    if not len(values):
        return "NaN", "–", ""
    with np.errstate(invalid="ignore"):
        mean = float(np.mean(values))
    name = {np.inf: "Infinity", -np.inf: "-Infinity"}.get(mean, "NaN")
    return mean if np.isfinite(mean) else name, mean_text(values), scale.color(mean)


def _legend(title: str, scale: Scale) -> dict[str, Any]:
    ends = [format_number(float(end)) for end in (scale.low, scale.high)]
    return {"title": title, "ends": ends, "colors": scale.sample()}


def _loss(run: RunRecords, optimizers: Sequence[str]) -> list[dict[str, Any]]:
    """A run's smoothed loss at `POINTS` steps or fewer; empty without losses."""
    steps, losses = smooth(*loss_curve(run))
    if not len(losses):
        return []
    name = run.loss_rows()[0].optimizer
    kept = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).astype(int))
    return [
        {
            "column": list(optimizers).index(name),
            "steps": [float(step) for step in steps[kept]],
            "values": [float(f"{loss:.5g}") for loss in losses[kept]],
        }
    ]
