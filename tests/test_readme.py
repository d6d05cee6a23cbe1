"""The README's commands, and the examples of the README and of every page below docs/pages."""

import pathlib
import re

import jax
import pytest

from tests.probes.dense import slow

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))
GUIDES = ROOT / "docs" / "pages" / "guides"

# A block of Python, and what it prints where a block of text follows at once.
EXAMPLE = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.M)
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
# Packages of the extra `zoo`: their loops run where they are installed.
OPTIONAL = {"haiku", "keras"}


def examples(text):
    return [(code, printed) for code, printed in EXAMPLE.findall(text)]


@pytest.fixture(autouse=True)
def as_readers_have_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some examples write
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def run_in_order(text, capsys):
    """Runs the examples of a page in one namespace and compares what they print."""
    names = {"__name__": "example"}
    for code, expected in examples(text):
        try:
            exec(code, names)
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
            continue
        printed = capsys.readouterr().out
        if expected:
            assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
            numbers = [[float(n) for n in NUMBER.findall(t)] for t in (printed, expected)]
            # Two decimals, and sums that another processor rounds otherwise.
            assert numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=0.01)


def test_top_two_commands():
    commands = re.findall(r"```bash\n(.*?)\n```", README, re.DOTALL)
    assert commands[0] == (
        "pip install -e . && "
        "python -m hgeo.main --config=configs/quickstart.py --workdir=runs/quickstart"
    )
    assert commands[1] == "pip install -e '.[test]' && pytest"


def test_the_readme_fits_one_screen():
    assert len(README.splitlines()) <= 150


def test_examples_of_the_readme(capsys):
    assert [bool(printed) for _, printed in examples(README)] == [True, True]
    run_in_order(README, capsys)
    assert pathlib.Path("runs/mine/geometry.csv").exists()


@pytest.mark.parametrize(
    "page",
    slow(
        [path for path in PAGES if "```python" in path.read_text()],
        [
            GUIDES / f"{n}.md"
            for n in ("designing-optimizers", "devices-and-clusters", "statistics")
        ],
    ),
    ids=lambda path: str(path.relative_to(ROOT / "docs" / "pages")),
)
def test_examples_of_a_page(page, capsys):
    run_in_order(page.read_text(), capsys)
