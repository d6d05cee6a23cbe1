"""The step and state at which a run starts from another run's iterate."""

import math

from hgeo.experiment.optimizer_transfer import at_step, carried_state
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import SameLossSettings
from hgeo.experiment.same_loss import iterate_row
from hgeo.records.run_records import IterateRow, RunRecords
from hgeo.training.updates import TrainState


def find_start(
    plan: RunPlan, repeat: int, parent: RunRecords | None, settings: SameLossSettings
) -> tuple[IterateRow, str]:
    """The iterate of another run at which a run starts, or why there is none.

    Args:
      plan: of the run that starts.
      repeat: which of its repeats.
      parent: the records of the other run; `None` if the other run was not started.
      settings: how iterates are found by their loss.

    Returns:
      The row to record, with step −1 if there is no such iterate, and then a line to print.
    """
    target, where = plan.start_target, f"{plan.name}, repeat {repeat}: not started"
    if parent is None:
        row = IterateRow(plan.name, repeat, "start", target, -1, math.nan)
        return row, f"{where}, since {plan.start_run} was not"
    if plan.start_loss is not None:
        row = iterate_row(settings, parent, "start", target, plan.name, repeat)
    else:
        end, step = parent.diverged_at, int(target)
        is_reached = end is None or step < end
        loss = parent.losses[step].loss if is_reached else math.nan
        row = IterateRow(plan.name, repeat, "start", target, step if is_reached else -1, loss)
    if row.step >= 0:
        return row, ""
    reason = f"since {plan.start_run} never reached that start"
    return row, f"{where}, {reason} (the lowest loss is {row.loss:.4g})"


def start_state(plan: RunPlan, parent: TrainState, fresh: TrainState) -> TrainState:
    """The state of a run at the iterate of another run.

    Args:
      plan: of the run that starts.
      parent: the other run's state there.
      fresh: its own state at the common variables, for the optimizer's.
    """
    optimizer = fresh.optimizer
    if plan.optimizer_state == "carried":
        optimizer = carried_state(parent.optimizer, optimizer, plan)
    return TrainState(parent.variables, at_step(optimizer, parent.step), parent.step)
