"""The report of an experiment: tables, figures and one self-contained page."""

import base64
import html
import json
from collections.abc import Sequence

from etils import epath
from rich.console import Console

from hgeo import figures
from hgeo.config import Config
from hgeo.optimizers import label
from hgeo.records import (
    EvaluationRow,
    GeometryRow,
    IterateRow,
    LossRow,
    RunRecords,
    write_rows,
    write_text,
)
from hgeo.tables import Table, compare, compare_at_losses, divergence_notes, held_out

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
thead th { border-bottom: 2px solid #1a1a1a; }
img { max-width: 100%; }
pre { background: #f5f5f5; padding: 1rem; overflow: auto; font-size: 13px; }
.diverged { color: #b00020; font-weight: 600; }
"""


def write_report(
    config: Config, records: Sequence[RunRecords], folder: epath.Path, console: Console
) -> None:
    """Writes the work folder's records, table, figures and page, and prints the table.

    The four CSV files hold the rows of all runs, `table.md` the printed tables.
    """
    write_rows(folder / "losses.csv", LossRow, (r for run in records for r in run.loss_rows()))
    rows = (row for run in records for row in run.geometry_rows())
    write_rows(folder / "geometry.csv", GeometryRow, rows)
    rows = (row for run in records for row in run.evaluation_rows())
    write_rows(folder / "evaluation.csv", EvaluationRow, rows)
    rows = (row for run in records for row in run.iterates.values())
    write_rows(folder / "iterates.csv", IterateRow, rows)

    tables = [
        table
        for pair in config.compare
        for table in (
            *compare(records, pair, config.probe.steps),
            *compare_at_losses(records, pair, config.same_loss.losses),
        )
    ]
    tables += held_out(records)
    write_text(folder / "table.md", "\n".join(table.markdown() for table in tables))
    drawn = {
        "losses": figures.loss_curves(records, config.optimizers),
        "r_med": figures.r_med_by_layer(records, config.optimizers),
    }
    images = {name: figures.png(figure) for name, figure in drawn.items()}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        (folder / "figures" / f"{name}.png").write_bytes(image)
    write_text(folder / "report.html", _page(config, records, tables, images))

    for table in tables:
        console.print(table.text(), highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _page(
    config: Config,
    records: Sequence[RunRecords],
    tables: Sequence[Table],
    images: dict[str, bytes],
) -> str:
    optimizers = ", ".join(label(name) for name in config.optimizers)
    title = html.escape(f"{config.workload}: {optimizers}")
    alts = {
        "losses": "training loss against step, one curve an optimizer",
        "r_med": "R_med against step, one panel a layer, log scale",
    }
    body = [f"<h1>{title}</h1>"]
    body += [f'<p class="diverged">{html.escape(n)}</p>' for n in divergence_notes(records)]
    body.append(
        "<p>R_med = max |H<sub>ii</sub>| / median |H<sub>ii</sub>| over sampled entries of each "
        "layer's Hessian diagonal, at the same coordinates for every optimizer and step. A ratio "
        "above 1 means that the second optimizer's diagonal is the more uniform one.</p>"
    )
    for name, image in images.items():
        source = "data:image/png;base64," + base64.b64encode(image).decode()
        body.append(f'<figure><img alt="{alts[name]}" src="{source}"></figure>')
    body += [_html_table(table) for table in tables]
    settings = html.escape(json.dumps(config.to_dict(), indent=2))
    body.append(f"<details><summary>Config</summary><pre>{settings}</pre></details>")
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{CSS}</style></head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    return (
        f"<h2>{html.escape(table.title)}</h2>\n<table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table>"
    )
