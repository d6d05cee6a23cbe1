"""Parts of a page in HTML, and the page around them: one file that loads nothing."""

import base64
import html
import importlib.resources
import json
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from hgeo.report.figures import Image
from hgeo.report.text_table import Table

# The page fetches, sends and frames nothing, even if a name holds markup.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

# Figures wider than this, in inches, take the page's width and scroll on a narrow screen.
WIDE = 8.0

# Every page sorts tables and saves figures.
SCRIPTS = ("tables.js", "saving.js")

_NUMBER = re.compile(r"[-−+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|inf|nan)\b.{0,20}|–|", re.IGNORECASE)


def resource(name: str, package: str = "hgeo.report.assets") -> str:
    """The text of a style sheet or script in `assets/`."""
    return (importlib.resources.files(package) / name).read_text()


def document(title: str, body: Sequence[str], scripts: Sequence[str] = ()) -> str:
    """A whole page.

    Args:
      title: plain text.
      body: HTML, under the title.
      scripts: JavaScript, run in this order after the scripts of every page.
    """
    parts = [*map(resource, SCRIPTS), *scripts]
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>",
        f"<style>\n{resource('style.css')}</style>",
    ]
    lines = ["<!doctype html>", '<html lang="en">', "<head>", *head, "</head>", "<body>"]
    lines += ["<main>", f"<h1>{html.escape(title)}</h1>", *body, "</main>"]
    lines += [f"<script>\n{part}</script>" for part in parts]
    return "\n".join([*lines, "</body>", "</html>"]) + "\n"


def html_table(table: Table) -> str:
    """A table under its title; sorting leaves last rows without a number at the end."""
    rows = list(table.rows)
    below: list[list[str]] = []
    while len(rows) > 1 and not rows[-1][0]:
        below.insert(0, rows.pop())
    kinds = [_kind([row[k] for row in rows]) for k in range(len(table.header))]
    labels = table.header
    groups = ""
    if any(table.groups):
        labels = [
            cell.partition(":")[2] if group and ":" in cell else cell
            for cell, group in zip(table.header, table.groups, strict=True)
        ]
        spans = [(name, len(list(columns))) for name, columns in groupby(table.groups)]
        groups = "".join(
            f'<th scope="colgroup" colspan="{n}">{html.escape(name)}</th>'
            if name
            else f'<td colspan="{n}"></td>'
            for name, n in spans
        )
        groups = f'<tr class="groups">{groups}</tr>\n'
        starts = [k for k, g in enumerate(table.groups) if k > 1 and g != table.groups[k - 1]]
        for k in starts:
            kinds[k] += " start"
    head = "".join(
        f'<th scope="col" class="{kind}">{html.escape(label)}</th>'
        for label, kind in zip(labels, kinds, strict=True)
    )
    foot = f"\n<tfoot>\n{_rows(below, kinds)}\n</tfoot>" if below else ""
    return (
        f"<h3>{html.escape(table.title)}</h3>\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(table.title)}">'
        f'<table class="sortable">\n<thead>{groups}<tr>{head}</tr></thead>\n'
        f"<tbody>\n{_rows(rows, kinds)}\n</tbody>{foot}</table></div>"
    )


def html_figure(name: str, alt: str, image: Image) -> str:
    """A figure with links that save it as `NAME.svg` and `NAME.png`.

    The page's script gives the first link the image's content, so that the page holds it once.
    """
    shown = "data:image/svg+xml;base64," + base64.b64encode(image.svg).decode()
    saved = "data:image/png;base64," + base64.b64encode(image.png).decode()
    file = html.escape(name)
    return (
        f'<figure class="{"wide" if image.inches > WIDE else "narrow"}">'
        f'<div class="scroll" tabindex="0"><img alt="{html.escape(alt)}" src="{shown}"></div>'
        f'<figcaption class="save"><a class="svg" download="{file}.svg" hidden>save SVG</a> '
        f'<a class="png" download="{file}.png" href="{saved}">save PNG</a></figcaption></figure>'
    )


def html_details(summary: str, text: str) -> str:
    """Preformatted text, folded under its summary."""
    return (
        f"<details><summary>{html.escape(summary)}</summary>"
        f"<pre>{html.escape(text)}</pre></details>"
    )


def embedded_json(identifier: str, value: Any) -> str:
    """Data for the page's scripts, escaped so that no text ends the element or acts as markup."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{html.escape(identifier)}">{text}</script>'


def breakable(name: str) -> str:
    """A name in HTML; a long name breaks after a slash."""
    return f'<span class="name">{html.escape(name).replace("/", "/<wbr>")}</span>'


def _kind(cells: Sequence[str]) -> str:
    return "number" if all(_NUMBER.fullmatch(cell) for cell in cells) else "text"


def _rows(rows: Sequence[Sequence[str]], kinds: Sequence[str]) -> str:
    return "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{breakable(cell) if "text" in kind else html.escape(cell)}</td>'
            for cell, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for row in rows
    )
