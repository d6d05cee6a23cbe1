"""The plan of a config: the runs that it names, and where each starts."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.optimizers import check_name
from hgeo.records.run_records import as_recorded

OPTIMIZER_STATES = ("fresh", "carried")

# Keys of a run's block that are not arguments of its optimizer.
OF_THE_RUN = (
    "optimizer",
    "start_run",
    "start_step",
    "start_loss",
    "optimizer_state",
    "learning_rate_from",
)


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A run that a config names.

    A run starts at the common initial weights, or at the iterate of another run with the same order
    of the data: a switch of the optimizer, or a branch.

    Attributes:
      name: the run's name, the key of its block.
      optimizer: whose definition it takes.
      arguments: of the optimizer.
      start_run: the run at whose iterate it starts; empty for none.
      start_step: the step of that iterate; `None` where `start_loss` gives it.
      start_loss: it starts at the first step whose smoothed training loss is no larger.
      optimizer_state: `"fresh"`, or `"carried"`: those parts that both optimizers have.
    """

    name: str
    optimizer: str
    arguments: Mapping[str, Any]
    start_run: str = ""
    start_step: int | None = None
    start_loss: float | None = None
    optimizer_state: str = "fresh"

    @property
    def rate(self) -> float:
        """Its learning rate."""
        return float(self.arguments["learning_rate"])

    @property
    def family(self) -> str:
        """The key of plans that differ in name and learning rate alone."""
        others = {k: v for k, v in self.arguments.items() if k != "learning_rate"}
        return repr((self.optimizer, sorted(others.items())))

    @property
    def start_target(self) -> float:
        """The step or the loss of the other run at which it starts."""
        return as_recorded((self.start_loss if self.start_step is None else self.start_step) or 0.0)


def make_plans(config: Config) -> list[RunPlan]:
    """The runs of a config, in its order.

    Raises:
      InputError: a run has no block, or `start_run` is no earlier run, or has no such iterate.
    """
    if not config.optimizers:
        raise InputError("config.optimizers names no optimizer")
    if len(set(config.optimizers)) < len(config.optimizers):
        raise InputError(f"config.optimizers names an optimizer twice: {tuple(config.optimizers)}")
    return [_plan(config, name) for name in config.optimizers]


def _plan(config: Config, name: str) -> RunPlan:
    if name not in config:
        check_name(name)
        raise InputError(f"config.optimizers names {name!r}, but there is no config.{name}")
    block = config[name].to_dict()
    arguments = {key: value for key, value in block.items() if key not in OF_THE_RUN}
    given = {key: value for key, value in block.items() if key in OF_THE_RUN}
    given.pop("learning_rate_from", None)
    optimizer = given.pop("optimizer", name)
    plan = RunPlan(name, optimizer, types.MappingProxyType(arguments), **given)
    if plan.optimizer_state not in OPTIMIZER_STATES:
        raise InputError(
            f"config.{name}.optimizer_state must be one of {OPTIMIZER_STATES}, "
            f"not {plan.optimizer_state!r}"
        )
    if not plan.start_run:
        return plan
    earlier = config.optimizers[: list(config.optimizers).index(name)]
    if plan.start_run not in earlier:
        raise InputError(
            f"config.{name}.start_run must be one of the runs before it in config.optimizers, "
            f"{tuple(earlier)}, not {plan.start_run!r}"
        )
    if (plan.start_step is None) == (plan.start_loss is None):
        raise InputError(
            f"config.{name} must give one of start_step and start_loss, not "
            f"{plan.start_step} and {plan.start_loss}"
        )
    if plan.start_step is not None and not 0 < plan.start_step < config.steps:
        raise InputError(
            f"config.{name}.start_step must lie between 0 and steps={config.steps}, "
            f"not {plan.start_step}"
        )
    return plan
