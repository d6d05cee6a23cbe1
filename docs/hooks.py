"""What the site needs beside the plugins: formulas as MathML, and files from outside docs/pages.

A page links to a result as `../../experiments/results/NAME.md`, which works on a Git host too. The
folder is a part of the site under the same name, and the links are made relative to the site.
"""

import html
import pathlib
import posixpath
import re

from latex2mathml.converter import convert
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parent.parent
FROM_OUTSIDE = ("experiments/tutorial.ipynb", "experiments/results")
KINDS = {".csv", ".ipynb", ".md", ".png"}

LINK = re.compile(r"\]\((?:\.\./)+(experiments/(?:results|tutorial)[^)\s]*)\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
# Most result tables open with their title in bold.
TITLE = re.compile(r"\A\*\*(.+?)\*\*$", re.MULTILINE)


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config) -> Files:
    """Adds the tutorial and the results."""
    for name in FROM_OUTSIDE:
        path = ROOT / name
        for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if found.suffix in KINDS:
                uri = found.relative_to(ROOT).as_posix()
                directory_urls = config.use_directory_urls
                files.append(File(uri, str(ROOT), config.site_dir, directory_urls))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Turns links to the results into links within the site, and a bold first line into a title."""
    folder = posixpath.dirname(page.file.src_uri)
    inside = lambda match: f"]({posixpath.relpath(match[1], folder or '.')})"
    return TITLE.sub(r"# \1", LINK.sub(inside, markdown), count=1)


def on_page_content(html_text: str, **_) -> str:
    """Sets formulas as MathML, which browsers show without a script."""
    return FORMULA.sub(_formula, html_text)


def _formula(match: re.Match) -> str:
    display = "block" if match[1] == "div" else "inline"
    math = convert(html.unescape(match[2]).strip(), display=display)
    return f'<div class="formula">{math}</div>' if display == "block" else math
