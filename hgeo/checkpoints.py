"""Checkpoints of a run: params, optimizer state and step, by Orbax."""

import hashlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

PyTree = Any


class Checkpoints:
    """The checkpoints of one run, one folder a step, written in the background.

    A checkpoint appears under its final name only when it is complete, so that one interrupted by
    a kill is never seen.
    """

    def __init__(self, folder: epath.PathLike):
        """Opens `folder`, which is made if it is absent."""
        path = epath.Path(folder).absolute()
        # Several processes meet at barriers, whose names must be this run's own; Orbax confuses
        # those of saves that overlap, so that there each save is waited for.
        name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        together = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None,
            enable_async_checkpointing=jax.process_count() == 1,
            multiprocessing_options=together,
        )
        self._manager = ocp.CheckpointManager(path, options=options)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: PyTree) -> None:
        """Begins to save `state`; the arrays are copied before this returns."""
        self._manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The state at `step`, with the structure, dtypes and placement of `like`."""
        self._manager.wait_until_finished()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

    def drop(self, step: int) -> None:
        """Deletes a checkpoint, after those that are being saved are complete."""
        self._manager.wait_until_finished()
        self._manager.delete(step)

    def close(self) -> None:
        """Waits for what is being written and ends the background threads."""
        self._manager.wait_until_finished()
        self._manager.close()
