"""The page report.html of an experiment."""

import html
import json
from collections.abc import Mapping, Sequence

from hgeo.optimizers import label
from hgeo.records.run_records import RunRecords
from hgeo.report.figures import Image
from hgeo.report.html import document, html_details, html_figure, html_table, resource
from hgeo.report.layer_view import html_layer_view, layer_view
from hgeo.report.summary import ExperimentSummary
from hgeo.report.tables import divergence_notes
from hgeo.report.text_table import Table

ALTS = {
    "tuning": "final training loss against learning rate, log scale",
    "losses": "training loss against step, one curve an optimizer",
    "loss_and_r_med": "training loss above, below it R_med's median over the layers and that of "
    "one layer, against the same steps, log scale",
    "r_med": "R_med against step, one panel a layer, log scale",
}

ABOUT = (
    "R_med = max |H<sub>ii</sub>| / median |H<sub>ii</sub>| over sampled entries of each layer's "
    "Hessian diagonal, at the same coordinates for every optimizer and step: the smaller, the more "
    "uniform. A ratio above 1 means that the second optimizer's diagonal is the more uniform one."
)

REPEATS = (
    " Numbers are means over the repeats, with the standard deviation in brackets; a ratio is the "
    "mean of each repeat's."
)

NO_TABLES = "No two optimizers are compared, and nothing was evaluated on held-out examples."

SECTIONS = {"layers": "Layers", "figures": "Figures", "tables": "Tables", "config": "Config"}


def experiment_page(
    summary: ExperimentSummary,
    records: Sequence[RunRecords],
    tables: Sequence[Table],
    images: Mapping[str, Image],
    command: str,
) -> str:
    """The page.

    Args:
      summary: of the experiment.
      records: of its runs.
      tables: in their order.
      images: the figures in `ALTS`.
      command: the command that makes the page; empty for none.
    """
    title = f"{summary.workload}: {', '.join(label(name) for name in summary.optimizers)}"
    view = layer_view(records, summary.optimizers, summary.compared_pairs)
    notes = [f'<p class="diverged">{html.escape(n)}</p>' for n in divergence_notes(records)]
    contents = {
        "layers": [html_layer_view(view)],
        "figures": [
            '<div class="figures">',
            *(html_figure(name, ALTS[name], image) for name, image in images.items()),
            "</div>",
        ],
        "tables": [html_table(table) for table in tables] or [f"<p>{NO_TABLES}</p>"],
        "config": [
            *([f"<pre>{html.escape(command)}</pre>"] if command else []),
            html_details("All settings", json.dumps(summary.settings, indent=2)),
        ],
    }
    links = "".join(f'<a href="#{name}">{text}</a>' for name, text in SECTIONS.items())
    about = ABOUT + (REPEATS if summary.repeats > 1 else "")
    body = [f"<nav>{links}</nav>", *notes, f"<p>{about}</p>"]
    for name, text in SECTIONS.items():
        body += [f'<section id="{name}">', f"<h2>{text}</h2>", *contents[name], "</section>"]
    return document(title, body, [resource("chart.js"), resource("layers.js")])
