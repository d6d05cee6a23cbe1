"""The rows of the records: what one line of each CSV file says; a step keeps its latest rows."""

import dataclasses
from collections.abc import Iterable

# Prefixes of the counts of Hessian entries, which are finite as a rule. What others count need not
# be: r_diag of a dead unit, what an optimizer makes of the Hessian (Lion has no P).
OF_HESSIAN = ("", "full_", "gauss_newton_", "fisher_", "spectrum_", "eigenvalues_")


@dataclasses.dataclass(frozen=True, slots=True)
class LossRow:
    """The loss of the parameters after `step` updates, on the minibatch of the next update."""

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
    """The first update of a run with an inf or a NaN, which is its last one.

    `quantity` is `"loss"`, `"gradient"`, `"optimizer state mu"` (or another moment), `"weights"` or
    `"running statistics"`; `layer` is the first array in which it was seen, also beside a loss.
    """

    optimizer: str
    repeat: int
    step: int
    epoch: float
    quantity: str
    layer: str


@dataclasses.dataclass(frozen=True, slots=True)
class IterateRow:
    """An iterate that was looked for by its loss.

    `purpose` is `"start"` (where the run goes on from another) or `"same_loss"`. `step` is the
    first whose loss is at most `target`; −1 where there is none, and `loss` then the lowest. The
    loss is the smoothed training loss or that of the probe's batch, as the config has it.
    """

    optimizer: str
    repeat: int
    purpose: str
    target: float
    step: int
    loss: float


def entries_not_finite(rows: Iterable[GeometryRow]) -> list[tuple[int, str, int, int]]:
    """(step, layer, how many, of how many) wherever Hessian entries of one step were not finite."""
    counts = {(row.layer, row.statistic): row for row in rows}
    found = []
    for (layer, statistic), row in counts.items():
        prefix = statistic.removesuffix("num_nonfinite")
        if prefix in OF_HESSIAN and prefix != statistic and row.value > 0:
            total = counts[layer, f"{prefix}num_entries"]
            found.append((row.step, layer, int(row.value), int(total.value)))
    return found
