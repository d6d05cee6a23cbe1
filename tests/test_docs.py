"""The documentation: links lead somewhere, and every public name and experiment is on a page."""

import pathlib
import re

import pytest

import hgeo
from experiments.paper.registry import EXPERIMENTS

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "experiments" / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    *sorted((ROOT / "docs" / "pages").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def anchors(path):
    """What headings are called in links, on the site and on Git hosts."""
    headings = HEADING.findall(CODE.sub("", path.read_text()))
    plain = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r"[\w\-/]+\.md", (ROOT / "docs" / "mkdocs.yml").read_text()))
    pages = (ROOT / "docs" / "pages").rglob("*.md")
    assert {path.relative_to(ROOT / "docs" / "pages").as_posix() for path in pages} == named


def test_every_public_name_is_on_one_page_of_the_api():
    pages = (ROOT / "docs" / "pages" / "api").glob("*.md")
    text = "".join(path.read_text() for path in pages)
    shown = re.findall(r"^::: hgeo\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(hgeo.__all__)


@pytest.mark.parametrize("page", ["experiments/README.md", "docs/pages/reproduction/index.md"])
def test_every_experiment_is_named(page):
    named = re.findall(r"`(\w+)`", CODE.sub("", (ROOT / page).read_text()))
    assert set(EXPERIMENTS) <= set(named), set(EXPERIMENTS) - set(named)


def test_every_experiment_has_a_result_on_a_page():
    pages = (ROOT / "docs" / "pages" / "reproduction").glob("*.md")
    headings = " ".join(h for path in pages for h in HEADING.findall(path.read_text()))
    assert set(EXPERIMENTS) <= set(re.findall(r"[a-z]\w*", headings))
