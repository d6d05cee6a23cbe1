"""How much disk an experiment's checkpoints will take."""

import os
from collections.abc import Iterable
from typing import Any

import jax
from etils import epath

from hgeo.experiment.order_of_runs import PlannedRun
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved
from hgeo.experiment.run_timeline import run_timeline
from hgeo.experiment.work_folder import WorkFolder
from hgeo.optimizers import make_optimizer
from hgeo.training.checkpoints import saved_steps

PyTree = Any
GB = 1e9


def checkpoint_bytes(
    resolved: Resolved, variables: PyTree, folder: WorkFolder, planned: Iterable[PlannedRun]
) -> int:
    """The bytes of the checkpoints that some runs will keep and have not saved.

    It is the size of variables and optimizer state, before compression, for each step whose
    checkpoint stays, and one for each compared loss.

    Args:
      resolved: the experiment.
      variables: of its model, or their shapes.
      folder: its work folder.
      planned: the runs.
    """
    sizes: dict[str, int] = {}
    total = 0
    for plan, repeat in planned:
        if plan.name not in sizes:
            sizes[plan.name] = _state_bytes(plan, variables)
        timeline = run_timeline(resolved, plan, repeat, plan.start_step or 0)
        kept = {step for step in timeline.kept(resolved.keep_all) if step >= timeline.start}
        saved = saved_steps(folder.run_folder(plan.name, repeat) / "checkpoints")
        total += sizes[plan.name] * (len(kept - set(saved)) + len(resolved.same_loss.losses))
    return total


def _state_bytes(plan: RunPlan, variables: Any) -> int:
    optimizer = make_optimizer(plan.optimizer, plan.arguments, block=plan.name)
    state = jax.eval_shape(optimizer.init, variables["params"])
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((variables, state)))


def free_bytes(folder: epath.Path) -> int | None:
    """What is free where a folder lies; `None` where that is unknown, as on cloud storage."""
    try:
        disk = os.statvfs(folder)
    except (OSError, ValueError):
        return None
    return disk.f_bavail * disk.f_frsize


def disk_line(needed: int, folder: epath.Path) -> str:
    """A line on what checkpoints need and what is free."""
    free = free_bytes(folder)
    line = f"checkpoints will take up to {needed / GB:.3g} GB in {folder}"
    if free is None:
        return line
    line += f", where {free / GB:.3g} GB are free"
    if needed > free:
        line += "; make room, or keep fewer: keep_checkpoints, checkpoint_every, probe.steps"
    return line
