"""When a planned run trains, and when each kind of its measurements is due."""

from collections.abc import Iterable

from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved
from hgeo.training.timeline import Timeline


def due_steps(resolved: Resolved) -> dict[str, tuple[int, ...]]:
    """The steps of each kind of measurement, in the order in which they are taken at one step."""
    return {
        "loss": resolved.same_loss.watched_steps,
        "evaluation": resolved.evaluation.steps,
        "probe": resolved.probe.steps,
    }


def run_timeline(
    resolved: Resolved,
    plan: RunPlan,
    repeat: int,
    start: int = 0,
    iterates: Iterable[int] = (),
) -> Timeline:
    """The timeline of a planned run.

    Args:
      resolved: the experiment.
      plan: of the run.
      repeat: which of its repeats.
      start: the step at which it starts.
      iterates: steps that its records name, whose checkpoints are kept too.
    """
    branches = [p.start_step for p in resolved.plans if p.start_run == plan.name and p.start_step]
    return Timeline(
        steps=resolved.steps,
        measured_steps=(*resolved.probe.steps, *resolved.evaluation.steps, *branches, *iterates),
        checkpoint_every=resolved.checkpoint_every,
        batch_size=resolved.batch_size,
        num_examples=resolved.num_examples,
        seed=resolved.seed,
        repeat=repeat,
        start=start,
        watched_steps=resolved.same_loss.watched_steps,
    )
