"""The resolved experiment: all that a config says, checked, complete and immutable."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from hgeo.experiment.learning_rate_schedule import Factor
from hgeo.experiment.plan import RunPlan
from hgeo.measure.context import ProbeOptions
from hgeo.report.summary import ExperimentSummary
from hgeo.workloads.workload import Workload


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """What is probed, and when.

    Attributes:
      steps: when, ascending.
      layers: by their numbers.
      num_coordinates: of each layer.
      batch_size: of the one batch.
      seed: chooses the batch's examples.
      statistics: their names.
      dropout: whether the probed loss has dropout, of fixed masks.
      options: how they are measured.
    """

    steps: tuple[int, ...]
    layers: tuple[int, ...]
    num_coordinates: int
    batch_size: int
    seed: int
    statistics: tuple[str, ...]
    dropout: bool
    options: ProbeOptions


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """When the held-out examples are evaluated, and how many at a time."""

    steps: tuple[int, ...]
    batch_size: int


@dataclasses.dataclass(frozen=True)
class SameLossSettings:
    """The losses at which iterates are searched for, and how.

    Attributes:
      losses: the given losses, without those at which runs start.
      reference: the run that gives the losses in their place; empty for none.
      by: `"training"`, the smoothed training loss, or `"probe"`, that of the probe's batch.
      window: the number of steps that a smoothed loss is the mean of.
      watched_steps: where the loss of the probe's batch is evaluated.
    """

    losses: tuple[float, ...]
    reference: str
    by: str
    window: int
    watched_steps: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of the runs that this process does: the `number`-th of `count`, from 1."""

    number: int
    count: int


@dataclasses.dataclass(frozen=True)
class Resolved:
    """An experiment as `resolve` makes it of a config and a work folder.

    Attributes:
      workload_name: of the task, as the config names it.
      read_workload: gives model, data and loss, which are read at the first call.
      num_examples: in the training set.
      seed: of weights, coordinates, batches and orders.
      plans: of the runs, in the config's order.
      compared_pairs: runs whose R_med stand side by side in the report.
      repeats: of each run.
      runs_together: the most that are trained as one program.
      share: of the runs, for this process.
      steps: updates of a run.
      batch_size: examples of an update.
      learning_rate_factor: of each step, common to all optimizers.
      max_gradient_norm: to which gradients are clipped; 0 for none.
      checkpoint_every: updates between checkpoints in addition to those of events; 0 for none.
      keep_all: whether checkpoints at which nothing was measured are kept.
      probe: what is probed.
      probe_only: the name under which saved checkpoints are probed; empty to train.
      evaluation: of the held-out examples.
      same_loss: the losses at which iterates are searched for.
      settings_json: all keys of the config as JSON, for the records and the report.
    """

    workload_name: str
    read_workload: Callable[[], Workload]
    num_examples: int
    seed: int
    plans: tuple[RunPlan, ...]
    compared_pairs: tuple[tuple[str, str], ...]
    repeats: int
    runs_together: int
    share: Share
    steps: int
    batch_size: int
    learning_rate_factor: Factor
    max_gradient_norm: float
    checkpoint_every: int
    keep_all: bool
    probe: ProbeSettings
    probe_only: str
    evaluation: EvaluationSettings
    same_loss: SameLossSettings
    settings_json: str

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The runs' names."""
        return tuple(plan.name for plan in self.plans)

    @property
    def runs(self) -> list[tuple[RunPlan, int]]:
        """Every run and repeat, in order."""
        return [(plan, repeat) for plan in self.plans for repeat in range(self.repeats)]

    @property
    def settings(self) -> dict[str, Any]:
        """All keys of the config as plain values, in a new dict."""
        return json.loads(self.settings_json)

    @property
    def summary(self) -> ExperimentSummary:
        """What a report says of the experiment."""
        return ExperimentSummary(
            workload=self.workload_name,
            optimizers=self.optimizers,
            compared_pairs=self.compared_pairs,
            probe_steps=self.probe.steps,
            repeats=self.repeats,
            settings=self.settings,
        )
