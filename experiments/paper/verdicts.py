"""Outcomes: the rules of `verdict_rules` applied to the rows of the results' files."""

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper.effects import Part, by_repeat, number
from experiments.paper.verdict_measures import MEASURES
from experiments.paper.verdict_rules import LEAST_REPEATS, LEVEL, RULES, Rule
from hgeo.report.tables import format_number
from hgeo.report.text_table import Table

REPRODUCED, IN_PART = "reproduced", "in part"
UNDECIDED, CONTRADICTED = "undecided", "contradicted"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of one experiment.

    Attributes:
      rule: by which it was judged.
      outcome: of all parts.
      parts: each with its own outcome.
      faults: why the rows can't be judged.
    """

    rule: Rule
    outcome: str
    parts: tuple[tuple[Part, str], ...]
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The outcome, and what stands against judging it."""
        why = self.faults or ((self._few(),) if self._few() else ())
        return self.outcome + (f" ({'; '.join(why)})" if why else "")

    def _few(self) -> str:
        """Says that repeats are missing, where they decide."""
        if self.outcome != UNDECIDED:
            return ""
        if not self.parts:
            return "the file has no rows of what the rule compares"
        if self.rule.test.startswith("none"):
            return f"no test, {self.rule.test.removeprefix('none: ')}"
        fewest = min(part.repeats for part, _ in self.parts)
        return f"repeats: {fewest}, needed: {LEAST_REPEATS}" if fewest < LEAST_REPEATS else ""


def judge(name: str, rows: Sequence[Mapping[str, Any]]) -> Verdict:
    """The outcome of an experiment's rows, as they are made or read from its file."""
    rule = RULES[name]
    faults = tuple(_faults(rule, rows))
    parts = tuple(MEASURES[rule.measure](rows, rule)) if rows and not faults else ()
    judged = tuple((part, _of_part(part, rule)) for part in parts)
    return Verdict(rule, _together([one for _, one in judged]), judged, faults)


def _of_part(part: Part, rule: Rule) -> str:
    if part.repeats < LEAST_REPEATS or part.low is None or part.high is None:
        return UNDECIDED
    there = part.low > 0 and part.effect >= rule.margin and part.p is not None and part.p <= LEVEL
    absent = part.high < rule.margin
    if there:
        return REPRODUCED if rule.holds else CONTRADICTED
    if absent:
        return CONTRADICTED if rule.holds else REPRODUCED
    return UNDECIDED


def _together(outcomes: Sequence[str]) -> str:
    kinds = set(outcomes)
    if len(kinds) == 1:
        return outcomes[0]
    return IN_PART if REPRODUCED in kinds else UNDECIDED


def _faults(rule: Rule, rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """What makes rows unfit for a verdict: labels, an eps in R_med, means of other repeats."""
    if not rows:
        yield "no rows"
    named = {(row["first"], row["second"]) for row in rows if "first" in row and "second" in row}
    others = sorted(named - set(rule.pairs)) if rule.pairs else []
    if others:
        yield f"the rule is of {_pairs(rule.pairs)}, the rows are of {_pairs(others)}"
    if "ours_first" not in (rows[0] if rows else {}):
        return
    values = [number(row[key]) for row in rows for key in ("ours_first", "ours_second")]
    below = sum(value < 1 - 1e-5 for value in values)
    if below:
        yield (
            f"R_med is below 1 in {below} of {len(values)} cells, so that eps was added to its "
            "median"
        )
    wrong = sum(_inconsistent(row) for row in rows)
    if wrong:
        yield f"in {wrong} of {len(rows)} rows ratio and means are not of the same repeats"


def _inconsistent(row: Mapping[str, Any]) -> bool:
    """Whether means or ratio are not those of the values by repeat, as far as these are known."""
    sides = [by_repeat(row.get(key)) for key in ("first_by_repeat", "second_by_repeat")]
    if str(row["repeats"]) == "1":
        sides = [np.array([number(row[key])]) for key in ("ours_first", "ours_second")]
    if not len(sides[0]) or len(sides[0]) != len(sides[1]):
        return len(sides[0]) != len(sides[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = [*map(np.mean, sides), np.exp(np.mean(np.log(sides[0]) - np.log(sides[1])))]
    found = [number(row[key]) for key in ("ours_first", "ours_second", "ours_ratio")]
    return any(
        math.isfinite(a) and math.isfinite(b) and abs(a - b) > 1e-3 * b
        for a, b in zip(found, expected, strict=True)
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{first} / {second}" for first, second in pairs)


def read_rows(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of an experiment's file, wherever below `folder`; none where there is no file."""
    for path in sorted(folder.rglob(f"{name}.csv")):
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return []


def verdict_table(folder: Path) -> Table:
    """Each rule with its outcome, and its parts, from the results' files below `folder`."""
    header = ["#", "id, or part", "claim", "statistic", "steps", "layers", "margin", "test"]
    header += ["effect", "95%", "of", "p", "repeats", "outcome"]
    cells = []
    for k, (name, rule) in enumerate(RULES.items()):
        verdict = judge(name, read_rows(folder, name))
        said = [rule.claim, rule.statistic, rule.steps, rule.layers, f"{rule.margin:.3g}"]
        cells.append([str(k + 1), name, *said, rule.test, *[""] * 5, str(verdict)])
        cells += [
            ["", part.name, *[""] * 6, *_numbers(part), outcome] for part, outcome in verdict.parts
        ]
    notes = [
        "Effects are natural logarithms of ratios (medians over layers) or differences of ρ, "
        "positive where the claim holds; of a claim that something is not so, positive where it "
        "is. `experiments/paper/verdict_rules.py` says how outcomes follow. A file without values "
        "by repeat gives an interval by repeats alone, from each layer's mean and deviation, and "
        "no test.",
    ]
    return Table("Verdicts", header, cells, notes)


def _numbers(part: Part) -> list[str]:
    if part.low is None or part.high is None:
        interval = "–"
    else:
        interval = f"{format_number(part.low)} to {format_number(part.high)}"
    p = "–" if part.p is None else f"{part.p:.2g}"
    return [format_number(part.effect), interval, covers(part), p, str(part.repeats)]


def covers(part: Part) -> str:
    """What a part's interval covers, and what takes no part in it."""
    return part.covers + (f"; {part.undefined} undefined" if part.undefined else "")
