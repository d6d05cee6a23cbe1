"""What is left to do of a planned run, read from its folders without opening the run."""

import dataclasses
from collections.abc import Sequence

from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved
from hgeo.experiment.run_timeline import due_steps, run_timeline
from hgeo.records.run_records import RunRecords
from hgeo.training.checkpoints import saved_steps
from hgeo.training.remaining import Remaining, what_is_left


def left_of_run(
    resolved: Resolved, plan: RunPlan, records: RunRecords, losses: Sequence[float] = ()
) -> Remaining:
    """What is left to do of a run, from its records and the names of its checkpoints.

    Args:
      resolved: the experiment.
      plan: of the run.
      records: what it has recorded.
      losses: at which iterates are searched for.

    Returns:
      What is left. It is an upper bound where the run starts at another run's iterate that is not
      known yet, and nothing where that iterate does not exist.
    """
    begins = records.iterates.get(("start", plan.start_target)) if plan.start_run else None
    if begins is not None and begins.step < 0:
        return Remaining(is_trained=not records.repairs)
    start = begins.step if begins is not None else plan.start_step or 0
    searched = [row for row in (records.iterates.get(("same_loss", x)) for x in losses) if row]
    due = due_steps(resolved)
    due["probe"] = (*due["probe"], *(row.step for row in searched if row.step >= 0))
    left = what_is_left(
        run_timeline(resolved, plan, 0, start, records.same_loss_steps),
        due,
        records,
        saved_steps(records.folder / "checkpoints"),
        resolved.keep_all,
    )
    is_begun = begins is not None or not plan.start_run
    return dataclasses.replace(
        left,
        searches=searches_left(resolved, records, losses),
        is_trained=left.is_trained and is_begun and not records.repairs,
    )


def searches_left(resolved: Resolved, records: RunRecords, losses: Sequence[float]) -> int:
    """The number of losses whose iterate has not been searched for in a run's records."""
    if resolved.same_loss.reference and not losses:
        return len(resolved.probe.steps)  # at most: the reference run will give the losses
    return sum(("same_loss", loss) not in records.iterates for loss in losses)


def is_probed(resolved: Resolved, trained: RunRecords, probed: RunRecords) -> bool:
    """Whether the saved checkpoints of a run have been probed on their own.

    Args:
      resolved: the experiment.
      trained: the run's records.
      probed: those of the probes, which repeat the run's losses and iterates.
    """
    due = {*resolved.probe.steps, *trained.same_loss_steps}
    lacking = (due & saved_steps(trained.folder / "checkpoints")) - probed.geometry.keys()
    is_copied = (probed.losses.keys(), probed.iterates.keys()) == (
        trained.losses.keys(),
        trained.iterates.keys(),
    )
    return is_copied and not lacking and not probed.repairs
