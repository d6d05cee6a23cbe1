"""Figures of training losses, and how much faster one optimizer is than another."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side, run_name
from experiments.paper.pairing import by_repeat
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, train
from hgeo.experiment.same_loss import first_step_at, smoothed_losses
from hgeo.records.run_records import RunRecords
from hgeo.report.figures import COLORS
from hgeo.report.tables import Table, format_number

POINTS = 60


@dataclasses.dataclass(frozen=True)
class Panel:
    """Runs whose losses are drawn together.

    Attributes:
      title: above them.
      baseline: gives the final loss that the others are to reach.
      others: the other optimizers.
      since_start: whether steps count from each run's first step.
    """

    title: str
    baseline: Side
    others: tuple[Side, ...]
    since_start: bool = False

    @property
    def sides(self) -> tuple[Side, ...]:
        """All, the baseline first."""
        return (self.baseline, *self.others)


@dataclasses.dataclass(frozen=True)
class Curve:
    """One optimizer's smoothed losses, on common steps.

    Attributes:
      steps: (N,).
      losses: (repeats, N).
      diverged: whether a repeat did.
    """

    steps: np.ndarray
    losses: np.ndarray
    diverged: bool


def loss_figure(
    name: str, title: str, panels: Sequence[Panel], context: ReproductionContext, claim: str
) -> Result:
    """The result of a figure of losses.

    Args:
      name: the experiment's id.
      title: of its table.
      panels: what it draws.
      context: where it runs.
      claim: what the paper says.
    """
    table_rows, found, lines = [], [], []
    figure = Figure(figsize=(4.8 * len(panels), 3.6), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        runs = {side: train(side.runs, context).of(side.optimizer) for side in panel.sides}
        windows = {side: _window(train(side.runs, context).config.steps) for side in panel.sides}
        for k, side in enumerate(panel.sides):
            curve = make_curve(runs[side], windows[side], panel.since_start)
            _draw(axes, curve, side, k)
            pair = runs[panel.baseline], runs[side]
            speeds = speed_ratios(*pair, windows[side], panel.since_start)
            ratio = None if np.isnan(speeds).all() else float(np.exp(np.nanmean(np.log(speeds))))
            found += _rows(panel.title, side, curve, speeds if k else [])
            final = curve.losses[:, -1]
            cells = [_with_std(final), "–" if k == 0 else _times(ratio)]
            who = run_name(side.optimizer)
            heading = [str(len(table_rows) + 1), f"{panel.title}: {who}"]
            table_rows.append([*heading, str(len(final)), *cells])
            if k:
                lines.append(f"{panel.title}, {who}: {_times(ratio)} (loss {cells[0]})")
        axes.set(xlabel="step (updates)", ylabel="training loss (nats)")
        axes.set_title(panel.title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    header = ["#", "run", "repeats", "final loss", "steps of the baseline / own, to its final loss"]
    note = (
        f"At `{context.scale}` scale; losses are means over a window of steps; the baseline is the "
        "first run of each panel. The ratio is the geometric mean over the repeats that both have."
    )
    summary = "; ".join(lines)
    verdict = f"{claim}; ours, in times the baseline's speed: {summary}"
    return Result(found, Table(title, header, table_rows, [note]), {name: figure}, verdict)


def make_curve(records: Sequence[RunRecords], window: int, since_start: bool) -> Curve:
    """The smoothed losses of some repeats up to the step that all of them have."""
    curves = [smoothed_losses(run, window) for run in records]
    diverged = any(run.diverged_at is not None for run in records)
    length = min(len(steps) for steps, _ in curves)
    chosen = np.unique(np.linspace(0, length - 1, min(POINTS, length)).round().astype(int))
    steps = curves[0][0][chosen]
    losses = np.array([values[chosen] for _, values in curves])
    return Curve(steps - steps[0] if since_start else steps, losses, diverged)


def speed_ratios(
    baseline: Sequence[RunRecords],
    other: Sequence[RunRecords],
    window: int,
    since_start: bool = False,
) -> np.ndarray:
    """The baseline's steps over the other's, to the baseline's final loss, in each repeat.

    To the larger of both runs' lowest smoothed losses; below 1 where the other is slower. Both
    count from the later of their two starts, so that a run that starts at another run's iterate is
    compared with that run from there on. With `since_start` each counts from its own start. NaN
    where there is nothing to compare.
    """
    found = []
    for pair in zip(baseline, other, strict=False):
        found.append(np.nan)
        curves = [smoothed_losses(run, window) for run in pair]
        if not all(len(losses) for _, losses in curves):
            continue
        level = max(float(losses.min()) for _, losses in curves)
        at = [first_step_at(run, level, window)[0] for run in pair]
        if None in at:
            continue
        starts = [int(steps[0]) for steps, _ in curves]
        starts = starts if since_start else [max(starts)] * 2
        since = [max(0, int(step or 0) - start) for step, start in zip(at, starts, strict=True)]
        found[-1] = (since[0] + 1) / (since[1] + 1)
    return np.array(found)


def _window(steps: int) -> int:
    return max(1, steps // 24)


def _draw(axes, curve: Curve, side: Side, k: int) -> None:
    mean, color = curve.losses.mean(axis=0), COLORS[k % len(COLORS)]
    note = " (diverged)" if curve.diverged else ""
    axes.plot(curve.steps, mean, color=color, label=run_name(side.optimizer) + note)
    if len(curve.losses) > 1:
        std = curve.losses.std(axis=0, ddof=1)
        axes.fill_between(curve.steps, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)


def _rows(
    panel: str, side: Side, curve: Curve, speeds: Sequence[float] | np.ndarray
) -> list[dict[str, Any]]:
    many = len(curve.losses) > 1
    return [
        {
            "panel": panel,
            "runs": side.runs,
            "optimizer": side.optimizer,
            "repeats": len(curve.losses),
            "step": int(step),
            "loss": float(values.mean()),
            "loss_std": float(values.std(ddof=1)) if many else None,
            "loss_by_repeat": by_repeat(values),
            "speed_by_repeat": by_repeat(speeds),
        }
        for step, values in zip(curve.steps, curve.losses.T, strict=True)
    ]


def _with_std(values: np.ndarray) -> str:
    std = f" ({format_number(float(np.std(values, ddof=1)))})" if len(values) > 1 else ""
    return format_number(float(np.mean(values))) + std


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"
