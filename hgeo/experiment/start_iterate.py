"""The step and state at which a run starts from another run's iterate."""

import math

from hgeo.experiment.optimizer_transfer import at_step, carried_state
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved, SameLossSettings
from hgeo.experiment.same_loss import iterate_row
from hgeo.experiment.work_folder import WorkFolder
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
        reason = f"never reached that start (the lowest loss is {row.loss:.4g})"
    else:
        row = _row_at(int(target), plan, repeat, parent)
        reason = f"has no step {int(target)}: it starts later, or diverged before"
    return row, "" if row.step >= 0 else f"{where}, since {plan.start_run} {reason}"


def _row_at(step: int, plan: RunPlan, repeat: int, parent: RunRecords) -> IterateRow:
    """The row of a start at a given step, which has step −1 if the other run lacks that step."""
    end, row = parent.diverged_at, parent.losses.get(step)
    if row is None or (end is not None and step >= end):
        return IterateRow(plan.name, repeat, "start", plan.start_target, -1, math.nan)
    return IterateRow(plan.name, repeat, "start", plan.start_target, step, row.loss)


def known_starts(resolved: Resolved, folder: WorkFolder, plan: RunPlan, repeat: int) -> list[int]:
    """The steps of a run at which other runs started, according to the records of those."""
    starts = []
    for other in resolved.plans:
        if other.start_run == plan.name:
            records = RunRecords(folder.run_folder(other.name, repeat))
            starts.append(records.iterates.get(("start", other.start_target)))
    return [row.step for row in starts if row is not None and row.step >= 0]


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
