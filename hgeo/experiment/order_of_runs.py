"""The order of work: which runs a share has, and which of them are trained together."""

from collections.abc import Iterable, Sequence

from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved

PlannedRun = tuple[RunPlan, int]  # a plan and a repeat


def runs_of_share(resolved: Resolved) -> list[PlannedRun]:
    """The runs of this process's share.

    The runs are dealt out repeat by repeat, so that a run stays in its share if repeats are added.
    Each round begins one share later, so that no share has every repeat of the run that others
    branch from. A run that starts at another run's iterate is in that run's share.
    """
    share = resolved.share
    planned = sorted(resolved.runs, key=lambda run: run[1])
    first = [(plan.name, repeat) for plan, repeat in planned if not plan.start_run]
    dealt = {run: (k + k // share.count) % share.count for k, run in enumerate(first)}
    runs = []
    for plan, repeat in resolved.runs:
        parent = dealt.get((plan.start_run, repeat), 0)
        if dealt.setdefault((plan.name, repeat), parent) == share.number - 1:
            runs.append((plan, repeat))
    return runs


def families(runs: Iterable[PlannedRun]) -> list[list[PlannedRun]]:
    """The runs in the order of work, in lists of runs that can be trained together.

    Such runs start at the common initial weights and differ in repeat and learning rate alone.
    """
    found: dict[object, list[PlannedRun]] = {}
    for plan, repeat in runs:
        family = (plan.name, repeat) if plan.start_run else plan.family
        found.setdefault(family, []).append((plan, repeat))
    return list(found.values())


def groups_of(family: Sequence[PlannedRun], size: int) -> list[list[PlannedRun]]:
    """A family cut into groups of at most `size` runs."""
    return [list(family[k : k + size]) for k in range(0, len(family), size)]
