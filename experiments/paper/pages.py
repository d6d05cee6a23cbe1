"""The pages of results, made of the published files: no number on them is typed.

`write_pages` writes the page of results and the gallery, puts the table between README's two
comments, and the outcome by rule into the last line of each result's own table.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.paper.effects import number
from experiments.paper.findings import (
    EARLIER,
    EARLIER_PROTOCOL,
    GALLERY_HEAD,
    NOTES,
    README_LINES,
    RESULTS_HEAD,
)
from experiments.paper.registry import EXPERIMENTS, RESULTS
from experiments.paper.runs import RUN_SETS
from experiments.paper.verdict_rules import LEAST_REPEATS
from experiments.paper.verdicts import Verdict, covers, judge, read_rows
from hgeo.optimizers import label
from hgeo.records.layer_numbers import is_whole
from hgeo.report.tables import format_number

ROOT = RESULTS.parent.parent
PAGE = Path("docs/pages/reproduction/results.md")
GALLERY = Path("docs/pages/gallery.md")
README = Path("README.md")

# In the order of the page; linear networks have a page of explanations besides.
WORKLOADS = {
    "translation": "Translation",
    "bert": "BERT",
    "lm": "Language model",
    "resnet": "ResNet",
    "linear": "Linear networks",
    "all": "All workloads",
    "extra": "Beyond the paper",
}

_COMMAND = re.compile(r"^`(python -m experiments\.reproduce .*)`$", re.MULTILINE)
_REPEATS = re.compile(r"--repeats=(\d+)")
_PAPER = re.compile(r"^the paper (?:claims|found|saw)(?: that)? (.*?)[;.] ", re.DOTALL)
_OUTCOME = re.compile(
    r"^(?:agrees(?: in part)?|NOT MET|holds|reproduced|in part|undecided|contradicted)"
    r"(?: \([^)]*\))?: "
)
_NAMES = re.compile(r"\b(sgdm|sgd|adam|adagrad|rmsprop|amsgrad|adamw|lion|muon)\b")
_BETWEEN = re.compile(r"(<!-- results: begin[^>]*-->\n).*?(<!-- results: end -->)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Published:
    """A result as its files have it.

    Attributes:
      name: the experiment's id.
      verdict: by the rule.
      ours: the sentence of its table's file on what was measured; empty without a file.
      paper: that on what the paper says; empty where the file has none.
      command: by which it was made.
      table: its Markdown file, below the folder of results; `None` without a result.
      figures: its images, likewise.
      above_1: (number of ratios above 1, of all) after the start: ours, and the paper's.
    """

    name: str
    verdict: Verdict
    ours: str
    paper: str
    command: str
    table: Path | None = None
    figures: tuple[Path, ...] = ()
    above_1: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    @property
    def claim(self) -> str:
        """What is judged, with the optimizers' labels."""
        return _NAMES.sub(lambda match: label(match[0]), self.verdict.rule.claim)

    @property
    def as_claimed(self) -> tuple[int, int]:
        """In how many parts the effect is on the claim's side of the margin, and of how many."""
        rule = self.verdict.rule
        effects = [part.effect for part, _ in self.verdict.parts if not math.isnan(part.effect)]
        return sum((e >= rule.margin) == rule.holds for e in effects), len(effects)


def read_published(name: str, results: Path = RESULTS) -> Published:
    """A result as it lies below `results`."""
    rows = read_rows(results, name)
    verdict = judge(name, rows)
    tables = sorted(results.rglob(f"{name}.md"))
    if not tables:
        return Published(name, verdict, "", "", "")
    text = tables[0].read_text()
    commands = _COMMAND.findall(text)
    command = commands[-1] if commands else f"python -m experiments.reproduce {name} --workdir=D"
    said = _said(text)
    paper = _PAPER.match(said)
    images = sorted(results.rglob(f"{name}.png")) + sorted(results.rglob(f"{name}_*.png"))
    return Published(
        name,
        verdict,
        _plain(said[paper.end() :] if paper else said),
        paper[1] if paper else "",
        command,
        tables[0].relative_to(results),
        tuple(path.relative_to(results) for path in images),
        (_above_1(rows, "ours_ratio"), _above_1(rows, "paper_ratio")),
    )


def _above_1(rows: Sequence[Mapping[str, str]], key: str) -> tuple[int, int]:
    later = [row for row in rows if row.get("step") != "0" or row.get("step_of_second") != "0"]
    ratios = [number(row.get(key)) for row in later if _is_layer(row.get("layer", ""))]
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    return sum(ratio > 1 for ratio in known), len(known)


def _is_layer(layer: str) -> bool:
    """Whether a row is of a whole layer: not of a part. Linear networks name their layers."""
    return not layer.isdigit() or is_whole(int(layer))


def write_pages(root: Path = ROOT, results: Path = RESULTS) -> list[Path]:
    """Writes what follows from the published results; gives the files that changed."""
    every = [read_published(name, results) for name in EXPERIMENTS]
    readme = (root / README).read_text()
    texts = {
        root / PAGE: page(every),
        root / GALLERY: gallery(every),
        root / README: _BETWEEN.sub(lambda m: m[1] + readme_table(every) + m[2], readme),
    }
    for found in every:
        for path in results.rglob(f"{found.name}.md"):
            text = path.read_text()
            said = _said(text)
            texts[path] = text.replace(_line(text), f"{found.verdict}: {said}")
    changed = [path for path, text in texts.items() if path.read_text() != text]
    for path in changed:
        path.write_text(texts[path])
    return changed


def page(every: Sequence[Published]) -> str:
    """The page of results: a summary, then a section for each experiment by workload."""
    text = [RESULTS_HEAD.format(least=LEAST_REPEATS), _summary(every)]
    for workload, title in WORKLOADS.items():
        own = [found for found in every if _workload(found.name) == workload]
        text += [f"## {title}\n", *(_section(found) for found in own)]
    return "\n".join(text)


def gallery(every: Iterable[Published]) -> str:
    """The page of all figures, a line each."""
    text = [GALLERY_HEAD]
    for found in every:
        for figure in found.figures:
            shows = _shows(found.name)
            image = f"![{shows}]({_link(figure, 2)}){{ loading=lazy }}"
            text.append(f"## {figure.stem}\n\n{shows}.\n\n{image}\n")
    return "\n".join(text)


def readme_table(every: Sequence[Published]) -> str:
    """The table in README."""
    by_name = {found.name: found for found in every}
    lines = ["| experiment | claim | ours | as claimed | by the test |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for names, what in README_LINES:
        own = [by_name[name] for name in names]
        page_link = f"{PAGE}#{names[0]}"
        counts = [found.as_claimed for found in own]
        good, total = (sum(column) for column in zip(*counts, strict=True))
        outcomes = ", ".join(dict.fromkeys(found.verdict.outcome for found in own))
        shown = f"{good} of {total}" if total else "–"
        cells = [f"[{', '.join(names)}]({page_link})", what, _ours(own), shown, outcomes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _summary(every: Sequence[Published]) -> str:
    lines = ["## Summary\n", "| experiment | claim | as claimed in | by the test |"]
    lines.append("| --- | --- | --- | --- |")
    for found in every:
        good, total = found.as_claimed
        count = f"{good} of {total} parts" if total else "–"
        link = f"[{found.name}](#{found.name})"
        lines.append(f"| {link} | {_cell(found.claim)} | {count} | {found.verdict.outcome} |")
    return "\n".join(lines) + "\n"


def _section(found: Published) -> str:
    lines = [f"### {found.name}\n", f"{_shows(found.name)}.\n"]
    if found.table is None:
        lines.append("- No result is published.")
    if found.paper:
        lines.append(f"- **Paper**: {found.paper}.")
    lines.append(f"- **Claim that is tested**: {found.claim}.")
    if found.ours:
        lines.append(f"- **Ours**: {found.ours}.")
    lines.append(f"- **Outcome**: {found.verdict}.")
    if found.table is not None and found.name in EARLIER_PROTOCOL:
        lines.append(f"- **Earlier protocol**: {EARLIER}.")
    if found.name in NOTES:
        lines.append(f"- **Note**: {NOTES[found.name]}")
    if found.table is not None:
        csv = found.table.with_suffix(".csv")
        lines.append(f"- **Files**: [table]({_link(found.table, 3)}), [CSV]({_link(csv, 3)}).")
        repeats = _REPEATS.search(found.command)
        cost = EXPERIMENTS[found.name].cost("cpu", int(repeats[1]) if repeats else None)
        lines.append(f"- **Command**: `{found.command}` ({cost} on 2 CPU cores).")
    text = "\n".join(lines) + "\n"
    if found.verdict.parts:
        text += "\n" + _parts(found.verdict)
    for figure in found.figures:
        shows = f"{_shows(found.name)} ({figure.stem})"
        text += f"\n![{shows}]({_link(figure, 3)}){{ loading=lazy }}\n"
    return text


def _parts(verdict: Verdict) -> str:
    rule = verdict.rule
    is_log = "log" in rule.statistic
    what = "factor" if is_log else "difference"
    lines = [f"| part | {what} | 95% | interval covers | p | repeats | outcome |"]
    lines.append("| --- | ---: | ---: | --- | ---: | ---: | --- |")
    for part, outcome in verdict.parts:
        known = part.low is not None and part.high is not None
        value, *ends = (_value(x, is_log) for x in (part.effect, part.low, part.high))
        interval = " to ".join(ends) if known else "–"
        p = "–" if part.p is None else f"{part.p:.2g}"
        of = covers(part) if known or part.undefined else "–"
        name = _cell(_NAMES.sub(lambda match: label(match[0]), part.name))
        cells = [name, value, interval, of, p, str(part.repeats), outcome]
        lines.append(f"| {' | '.join(cells)} |")
    statistic = re.sub(r"^log(?: |\b)", "", rule.statistic) if is_log else rule.statistic
    note = f"{what.capitalize()}: {statistic}; steps: {rule.steps}; layers: {rule.layers}."
    return "\n".join(lines) + f"\n\n{_cell(note)}\n"


def _ours(own: Sequence[Published]) -> str:
    """Where ratios lie, beside the paper's; else the range of the effects of the first's kind."""
    above = {found.name: found.above_1 for found in own if found.above_1[1][1]}
    if above:
        (ours, of_ours), (paper, of_paper) = (
            [sum(column) for column in zip(*sides, strict=True)]
            for sides in zip(*above.values(), strict=True)
        )
        beside = f" (paper {paper} of {of_paper})" if of_paper else ""
        return f"ratio above 1 in {ours} of {of_ours}{beside}"
    rule = own[0].verdict.rule
    effects = [
        part.effect
        for found in own
        for part, _ in found.verdict.parts
        if found.verdict.rule.statistic == rule.statistic and math.isfinite(part.effect)
    ]
    if not effects:
        return "–"
    is_log = "log" in rule.statistic
    values = dict.fromkeys(_value(x, is_log) for x in (min(effects), max(effects)))
    return f"{'factor' if is_log else 'difference of ρ'} {' to '.join(values)}"


def _value(effect: float | None, is_log: bool) -> str:
    value = number(effect)
    if not is_log or math.isnan(value):
        return format_number(value)
    return format_number(math.exp(value)) if value < 700 else "∞"


def _line(text: str) -> str:
    """The line of a result's table that has the outcome: the last one before the command."""
    return _COMMAND.sub("", text).rstrip("\n").rpartition("\n")[2]


def _said(text: str) -> str:
    return _OUTCOME.sub("", _line(text))


def _plain(ours: str) -> str:
    """What was measured, without the word that says whose it is."""
    ours = re.sub(r"^ours(?:,| are| is)? ?", "", ours.rstrip("."))
    return re.sub(r"(?<=: )ours are ", "", ours)


def _workload(name: str) -> str:
    if name.startswith("extra_"):
        return "extra"
    runs = EXPERIMENTS[name].runs
    configs = {RUN_SETS[run].config for run in runs}
    if not configs:
        return "linear"
    return RUN_SETS[runs[0]].config if name != "claim" else "all"


def _shows(name: str) -> str:
    shows = EXPERIMENTS[name].shows
    return shows[0].upper() + shows[1:]


def _link(path: Path, depth: int) -> str:
    """To a file of the results, from a page `depth` folders below the root."""
    return "../" * depth + f"experiments/results/{path.as_posix()}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
