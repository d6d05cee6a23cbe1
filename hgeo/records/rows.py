"""The rows of the records: the columns of each CSV file."""

import dataclasses
from collections.abc import Iterable

# Prefixes of the counts of Hessian entries, which should be finite. Other counts are of values that
# may be inf or NaN: r_diag of a dead unit, the preconditioned Hessian of an optimizer without P.
OF_HESSIAN = ("", "full_", "gauss_newton_", "fisher_", "spectrum_", "eigenvalues_")


@dataclasses.dataclass(frozen=True, slots=True)
class LossRow:
    """The loss of the params after `step` updates, on the minibatch of the next update."""

    optimizer: str
    repeat: int
    step: int
    epoch: float
    loss: float


@dataclasses.dataclass(frozen=True, slots=True)
class GeometryRow:
    """A statistic of one layer after `step` updates; `loss` is that of the probe's batch."""

    optimizer: str
    repeat: int
    step: int
    epoch: float
    loss: float
    layer_number: int
    layer: str
    statistic: str
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationRow:
    """A metric of the held-out examples after `step` updates."""

    optimizer: str
    repeat: int
    step: int
    epoch: float
    metric: str
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeLossRow:
    """The loss of the probe's batch after `step` updates."""

    optimizer: str
    repeat: int
    step: int
    epoch: float
    loss: float


@dataclasses.dataclass(frozen=True, slots=True)
class NotFiniteRow:
    """The first update of a run with an inf or a NaN, at which the run stops.

    `quantity` is `"loss"`, `"gradient"`, `"optimizer state mu"` (or another moment), `"weights"` or
    `"running statistics"`; `layer` is the first array with an inf or a NaN, also for a loss.
    """

    optimizer: str
    repeat: int
    step: int
    epoch: float
    quantity: str
    layer: str


@dataclasses.dataclass(frozen=True, slots=True)
class IterateRow:
    """The iterate of a run with a given loss.

    `purpose` is `"start"` (the start of a run at another run's iterate) or `"same_loss"`. `step` is
    the first step whose loss is at most `target`. If there is none, `step` is −1 and `loss` is the
    lowest. The config decides whether the loss is the smoothed training loss or that of the probe's
    batch.
    """

    optimizer: str
    repeat: int
    purpose: str
    target: float
    step: int
    loss: float


def entries_not_finite(rows: Iterable[GeometryRow]) -> list[tuple[int, str, int, int]]:
    """(step, layer, number, total) of each layer with Hessian entries that are not finite."""
    counts = {(row.layer, row.statistic): row for row in rows}
    entries = []
    for (layer, statistic), row in counts.items():
        prefix = statistic.removesuffix("num_nonfinite")
        if prefix in OF_HESSIAN and prefix != statistic and row.value > 0:
            total = counts[layer, f"{prefix}num_entries"]
            entries.append((row.step, layer, int(row.value), int(total.value)))
    return entries
