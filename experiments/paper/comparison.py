"""Two optimizers' R_med beside the paper's, layer by layer and checkpoint by checkpoint."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.paper import paper_numbers
from experiments.paper.pairing import Probed, paired
from experiments.paper.ranks import rank_correlation
from experiments.paper.run_set import LARGE_SCALES
from experiments.paper.training import ReproductionContext, Trained, train
from hgeo.optimizers import label
from hgeo.records.layer_numbers import is_whole
from hgeo.report.tables import At

Moment = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Side:
    """One optimizer's runs.

    Attributes:
      runs: the run set.
      optimizer: its name in it.
      series: the paper's name for it in its table; empty, the optimizer's.
    """

    runs: str
    optimizer: str
    series: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison with a table of the paper.

    Attributes:
      table: the paper's, as in `tables.csv`; empty beyond the paper.
      first: the optimizer above the fraction line.
      second: that below it.
      checkpoints: the paper's checkpoints, each with its share of training (numerator,
        denominator), or with its place (from 0) in `same_loss.losses` of the runs. Beyond the paper
        a row has the name of our checkpoint.
      matches: the scales at which the layers are the paper's, by number.
      setting: distinguishes it from other comparisons of the same table.
      statistic: the compared statistic.
    """

    table: str
    first: Side
    second: Side
    checkpoints: Mapping[str, Moment | int]
    matches: tuple[str, ...] = LARGE_SCALES
    setting: str = ""
    statistic: str = "r_med"

    @property
    def series(self) -> tuple[str, str]:
        """The paper's names of both sides."""
        first, second = ((side.series or side.optimizer) for side in (self.first, self.second))
        return first, second


# Runs that start from others' iterates.
_BRANCHES = {
    "adam_after_sgd": "Adam after SGD",
    "sgdm_from_sgdm": "SGD+M from SGD+M's iterate",
    "sgdm_from_adam": "SGD+M from Adam's iterate",
}


def run_name(optimizer: str) -> str:
    """An optimizer of a run set, or a branch of one, as tables and figures name it."""
    return _BRANCHES.get(optimizer, label(optimizer)).replace("_", " ")


def epochs(total: int, *chosen: int) -> dict[str, Moment]:
    """Checkpoints named by epochs of a training of `total`."""
    return {f"epoch {epoch}": (epoch, total) for epoch in chosen}


def rows(comparison: Comparison, context: ReproductionContext) -> list[dict[str, Any]]:
    """A row for each checkpoint and layer that was probed."""
    sides = (comparison.first, comparison.second)
    trained = [train(side.runs, context) for side in sides]
    probed = [
        Probed(runs.of(side.optimizer), comparison.statistic, runs.config.probe.options.eps)
        for runs, side in zip(trained, sides, strict=True)
    ]
    paper = paper_numbers.of_table(comparison.table) if comparison.table else {}
    found = []
    for checkpoint, moment in comparison.checkpoints.items():
        ours = _ours_of(moment, trained[0])
        at = [_steps(moment, *pair) for pair in zip(trained, sides, strict=True)]
        apart = not at[0] == at[1] == 0
        losses = [own.losses(when) for own, when in zip(probed, at, strict=True)]
        both = [repeat for repeat in losses[0] if repeat in losses[1]]
        for layer, name in probed[0].layers.items():
            matched = context.scale in comparison.matches
            known = paper if matched else {}
            of_paper = [known.get((checkpoint, layer, series)) for series in comparison.series]
            theirs, theirs_std = paper_numbers.ratio(known, checkpoint, layer, comparison.series)
            found.append(
                {
                    "setting": comparison.setting,
                    "checkpoint": checkpoint if comparison.table else ours,
                    "our_checkpoint": ours,
                    "step": _text(at[0]),
                    "step_of_second": _text(at[1]),
                    "loss": _mean([losses[0][repeat] for repeat in both]),
                    "loss_of_second": _mean([losses[1][repeat] for repeat in both]),
                    "layer": layer,
                    "name": name.removesuffix("/kernel"),
                    "first": sides[0].optimizer,
                    "second": sides[1].optimizer,
                    "paper_first": of_paper[0].value if of_paper[0] else None,
                    "paper_second": of_paper[1].value if of_paper[1] else None,
                    "paper_ratio": theirs,
                    "paper_ratio_std": theirs_std,
                    **paired(probed, at, layer, resample=apart),
                }
            )
    return found


def _steps(moment: Moment | int, trained: Trained, side: Side) -> At:
    """The step of a moment in training, or each repeat's own at a loss."""
    if not isinstance(moment, int):
        return round(trained.config.steps * moment[0] / moment[1])
    losses = trained.config.same_loss.losses
    if moment >= len(losses):
        return {}
    rows = [run.iterates.get(("same_loss", losses[moment])) for run in trained.of(side.optimizer)]
    return {row.repeat: row.step for row in rows if row is not None and row.step >= 0}


def _ours_of(moment: Moment | int, trained: Trained) -> str:
    """The name of our checkpoint that is paired with the paper's."""
    config = trained.config
    if not isinstance(moment, int):
        return f"step {round(config.steps * moment[0] / moment[1])} of {config.steps}"
    losses = config.same_loss.losses
    return f"loss {losses[moment]:g}" if moment < len(losses) else "none"


def moment(row: Mapping[str, Any]) -> str:
    """The checkpoint; where the losses of the two sides differ, ours and the paper's."""
    paper, ours = row["checkpoint"], row["our_checkpoint"]
    both_losses = paper.startswith("loss ") and ours.startswith("loss ")
    loss = lambda text: float(text.removeprefix("loss "))
    if both_losses and loss(paper) != loss(ours):
        return f"{ours} (paper's {loss(paper):g})"
    return paper


def _text(at: At) -> str:
    if isinstance(at, int):
        return str(at)
    return " ".join(str(step) for step in at.values()) or "never reached"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def whole_layers(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of layers that the paper numbers, without those of their parts."""
    return [row for row in found if is_whole(row["layer"])]


def agreement(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How well rows agree with the paper.

    Rows at which both optimizers have the same numbers (the common start) have no ratio; they count
    for R_med alone.

    Returns:
      `agree` of `compared` ratios on the same side of 1; `above` of `known` ratios of ours above 1
      and their `median`, and the paper's `paper_above`, `paper_known` and `paper_median`;
      Spearman's ρ with the paper's numbers over all rows that have them, of the `first` and
      `second` optimizer's R_med and of the `ratio` (NaN for fewer than three).
    """
    found = whole_layers(found)
    apart = [row for row in found if not _is_common(row)]
    ours = [row for row in apart if _is_number(row["ours_ratio"])]
    both = [row for row in ours if _is_number(row["paper_ratio"])]
    papers = [row for row in apart if _is_number(row["paper_ratio"])]
    same = sum((row["ours_ratio"] > 1) == (row["paper_ratio"] > 1) for row in both)
    return {
        "agree": same,
        "compared": len(both),
        "above": sum(row["ours_ratio"] > 1 for row in ours),
        "known": len(ours),
        "paper_above": sum(row["paper_ratio"] > 1 for row in papers),
        "paper_known": len(papers),
        "median": _median(row["ours_ratio"] for row in ours),
        "paper_median": _median(row["paper_ratio"] for row in papers),
        "first": _rank_correlation(found, "paper_first", "ours_first"),
        "second": _rank_correlation(found, "paper_second", "ours_second"),
        "ratio": _rank_correlation(both, "paper_ratio", "ours_ratio"),
    }


def _rank_correlation(found: Sequence[Mapping[str, Any]], *keys: str) -> float:
    pairs = [[row[key] for key in keys] for row in found]
    known = [pair for pair in pairs if all(value is not None for value in pair)]
    return rank_correlation([a for a, _ in known], [b for _, b in known])[0]


def _median(values: Iterable[float]) -> float:
    known = list(values)
    return float(np.median(known)) if known else float("nan")


def _is_common(row: Mapping[str, Any]) -> bool:
    return row["step"] == row["step_of_second"] == "0"


def _is_number(value: float | None) -> bool:
    return value is not None and not np.isnan(value)
