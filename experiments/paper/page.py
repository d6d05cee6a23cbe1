"""report.html of a work folder: all of its experiments on one self-contained page.

Each experiment's part is kept as `parts/ID.html`, so that a later one only adds its own.
"""

import html
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from experiments.paper.result import Result
from hgeo.records.run_records import write_text
from hgeo.report.html import document, html_details, html_figure, html_table, resource


def write_page(
    folder: epath.Path, name: str, result: Result, command: str, configs: Mapping[str, Any]
) -> None:
    """Adds an experiment to the folder's page.

    Args:
      folder: the work folder.
      name: the experiment's id.
      result: what it gave.
      command: that gives it again.
      configs: by run set.
    """
    write_text(folder / "parts" / f"{name}.html", part(name, result, command, configs))
    files = sorted((folder / "parts").glob("*.html"), key=lambda path: path.stem)
    write_text(folder / "report.html", page({path.stem: path.read_text() for path in files}))


def part(name: str, result: Result, command: str, configs: Mapping[str, Any]) -> str:
    """One experiment: verdict, command, figures, table and configs."""
    text = html.escape
    lines = [
        f'<section id="{text(name)}">',
        f"<h2>{text(name)}</h2>",
        f"<p><b>{text(result.verdict)}</b></p>",
    ]
    lines.append(f"<pre>{text(command)}</pre>")
    lines += [html_figure(title, title, image) for title, image in result.images.items()]
    lines.append(html_table(result.table))
    lines += [f"<p>{text(note)}</p>" for note in result.table.notes]
    lines += [
        html_details(f"Config of {run_set}", json.dumps(config, indent=2))
        for run_set, config in configs.items()
    ]
    return "\n".join([*lines, "</section>"])


def page(parts: Mapping[str, str]) -> str:
    """The page that lets one experiment be picked; without scripts it shows all of them."""
    options = "".join(f'<option value="{html.escape(n)}">{html.escape(n)}</option>' for n in parts)
    menu = (
        f'<form class="controls" hidden><label>Experiment <select>{options}</select></label></form>'
    )
    script = resource("page.js", "experiments.paper")
    return document("Experiments", [menu, *parts.values()], [script])
