"""The pages of results follow from the published files."""

import csv
import re
import shutil

import pytest

from experiments.paper import pages
from experiments.paper.findings import EARLIER_PROTOCOL
from experiments.paper.pages import read_published
from experiments.paper.registry import EXPERIMENTS, RESULTS
from experiments.paper.run_configs import load_config
from experiments.paper.runs import RUN_SETS
from experiments.paper.verdicts import read_rows


@pytest.fixture(scope="module")
def every():
    return [read_published(name) for name in EXPERIMENTS]


def test_what_is_committed_is_what_the_command_writes(every):
    assert (pages.ROOT / pages.PAGE).read_text() == pages.page(every)
    assert (pages.ROOT / pages.GALLERY).read_text() == pages.gallery(every)
    assert pages.readme_table(every) in (pages.ROOT / pages.README).read_text()
    for found in every:
        for path in RESULTS.rglob(f"{found.name}.md"):
            assert f"\n{found.verdict}: " in path.read_text(), path


def factor_of(part, found):
    """The factor of a part, as its section on the page has it."""
    return float(re.search(rf"^\| {part} \| ([\d.]+) \|", pages._section(found), re.M)[1])


def test_a_changed_number_changes_the_pages(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for suffix in ("csv", "md", "png"):
        shutil.copy(RESULTS / f"table2a.{suffix}", results)
    before = read_published("table2a", results)
    first = factor_of("epoch 55", before)
    path = results / "table2a.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["checkpoint"] == "epoch 55":
            for key in (
                "ours_ratio",
                "ours_mean_ratio",
                "ours_ratio_low",
                "ours_ratio_high",
                "ours_first",
            ):
                row[key] = f"{2 * float(row[key])}"
            by_repeat = [2 * float(value) for value in row["first_by_repeat"].split()]
            row["first_by_repeat"] = " ".join(map(str, by_repeat))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    after = read_published("table2a", results)
    assert after.above_1[0][0] > before.above_1[0][0]
    assert after.above_1[1] == before.above_1[1] == (19, 20)
    assert after.as_claimed[0] == before.as_claimed[0] + (first < 1.1 <= 2 * first)
    assert factor_of("epoch 55", after) == pytest.approx(2 * first, rel=0.01)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_results_of_fewer_updates_than_their_command_takes_are_said_to_be(name):
    rows = read_rows(RESULTS, name)
    found = {int(row["step"]) for row in rows if row.get("step", "").isdigit()}
    sets = [runs for runs in EXPERIMENTS[name].runs if RUN_SETS[runs].config == "translation"]
    ends = [max(load_config(runs, "cpu").probe.steps) for runs in sets]
    if found and ends and name != "figure1a":  # whose steps are counted from another run's
        assert (max(found) < 0.9 * max(ends)) == (name in EARLIER_PROTOCOL)


def test_a_result_without_files_is_said_to_be_missing(tmp_path):
    found = read_published("table2a", tmp_path)
    assert "No result is published" in pages._section(found)
    assert found.verdict.outcome == "undecided"


def test_the_outcome_is_put_into_the_results_own_table(tmp_path):
    root, results = tmp_path, tmp_path / "experiments" / "results"
    results.mkdir(parents=True)
    for suffix in ("csv", "md"):
        shutil.copy(RESULTS / f"table10.{suffix}", results)
    for path in (pages.PAGE, pages.GALLERY, pages.README):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pages.ROOT / path, root / path)
    table = results / "table10.md"
    text = table.read_text()
    table.write_text(text.replace("\nundecided (repeats: 1, needed: 6): ", "\nagrees: "))
    assert table.read_text() != text
    assert table in pages.write_pages(root, results)
    assert table.read_text() == text
    assert pages.write_pages(root, results) == []
