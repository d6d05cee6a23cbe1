"""Checkpoints of a run: params, optimizer state and step, by Orbax, with a digest of the arrays."""

import contextlib
import hashlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from hgeo.errors import InputError

PyTree = Any

DIGEST = "arrays_sha256"


class DamagedCheckpoint(Exception):  # noqa: N818 - it is an event: an earlier one is taken
    """A checkpoint that can't be read, or whose arrays are not those that were saved.

    Attributes:
      step: its step, which the folder's steps no longer list.
    """

    def __init__(self, folder: epath.Path, step: int, why: str):
        """Takes the folder of the checkpoints, the step, and what is wrong."""
        super().__init__(f"the checkpoint {folder / str(step)} is damaged ({why})")
        self.step = step


class Checkpoints:
    """The checkpoints of one run, one folder a step, written in the background.

    A checkpoint appears under its final name only when it is complete, so that a kill leaves none
    that is cut short. Its metadata hold a SHA-256 of the arrays. Every restored state is compared
    with it, because Orbax itself does not check arrays.
    """

    def __init__(self, folder: epath.PathLike):
        """Opens or creates `folder`, and deletes what a kill left half-written."""
        self._folder = epath.Path(folder).absolute()
        self._damaged: dict[int, str] = {}
        # Several processes meet at barriers, whose names must differ between runs. Orbax confuses
        # the barriers of overlapping saves, so that with several processes each save is waited for.
        name = hashlib.sha256(str(self._folder).encode()).hexdigest()[:16]
        together = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None,
            enable_async_checkpointing=jax.process_count() == 1,
            multiprocessing_options=together,
            cleanup_tmp_directories=True,
            lightweight_initialize=True,  # else one damaged checkpoint would close all of them
        )
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as error:
            raise InputError(f"the folder {self._folder} can't be used: {error}") from error

    def steps(self) -> list[int]:
        """The steps that have a checkpoint not known to be damaged, ascending."""
        return sorted(set(self._manager.all_steps()) - self._damaged.keys())

    def save(self, step: int, state: PyTree) -> None:
        """Begins to save `state`; the arrays are copied before this returns.

        A damaged checkpoint of that step is replaced; a whole one stays, since the same updates
        give the same state.

        Raises:
          InputError: this checkpoint or the one before can't be written.
        """
        if step in self.steps():
            return
        with _written(self._folder):
            if step in self._damaged:
                self.drop(step)
                del self._damaged[step]
            arguments = ocp.args.StandardSave(state)
            metadata = {DIGEST: digest(state)}
            self._manager.save(step, args=arguments, custom_metadata=metadata, force=True)

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The state at `step`, with the structure, dtypes and placement of `like`.

        Raises:
          DamagedCheckpoint: the arrays differ from what was saved, and other checkpoints exist.
          InputError: they differ, and no other checkpoint exists. Nothing is deleted.
        """
        self._wait()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        state, why = None, self._damaged.get(step, "")
        try:
            if not why:
                state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
                why = self._difference(step, state)
        except MemoryError:
            raise
        except Exception as error:  # Orbax and TensorStore have no common class for damaged files
            why = _first_line(error)
        if not _agreed(not why):
            why = why or "another process could not read it"
            self._damaged[step] = why
            damaged = DamagedCheckpoint(self._folder, step, why)
            if self.steps():
                raise damaged
            damage = "; ".join(f"step {n}: {self._damaged[n]}" for n in sorted(self._damaged))
            raise InputError(
                f"{self._folder} holds no checkpoint that can be trusted ({damage}); nothing was "
                f"deleted. Put a whole copy in its place, or remove {self._folder.parent} to train "
                "this run again"
            ) from damaged
        return state

    def drop(self, step: int) -> None:
        """Deletes a checkpoint, after those that are being saved are complete."""
        self._wait()
        self._manager.delete(step)

    def close(self) -> None:
        """Waits for what is being written and ends the background threads."""
        try:
            self._wait()
        finally:
            self._manager.close()

    def _wait(self) -> None:
        with _written(self._folder):
            self._manager.wait_until_finished()

    def _difference(self, step: int, state: PyTree) -> str:
        """What is wrong with a state that was read; empty if nothing is."""
        metadata = self._manager.metadata(step).custom_metadata
        if not metadata:
            warnings.warn(
                f"the checkpoint {self._folder / str(step)} has no digest (it was written by an "
                "older hgeo), so that its arrays could not be checked",
                stacklevel=2,
            )
            return ""
        same = metadata.get(DIGEST) == digest(state)
        return "" if same else "its arrays are not those that were saved"


def saved_steps(folder: epath.PathLike) -> set[int]:
    """The steps that have a checkpoint in a folder, which is not opened."""
    path = epath.Path(folder)
    return {int(p.name) for p in path.iterdir() if p.name.isdigit()} if path.exists() else set()


def digest(state: PyTree) -> str:
    """SHA-256 of the path, dtype, shape and bytes of every leaf, in the tree's order."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        where = jax.tree_util.keystr(path)
        result.update(f"{where} {array.dtype} {np.shape(leaf)}\n".encode())
        result.update(array.reshape(-1).view(np.uint8).data)
    return result.hexdigest()


@contextlib.contextmanager
def _written(folder: epath.Path):
    """Turns a failed write into an error that says which checkpoints are whole."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(
            f"no checkpoint could be written to {folder}: {_first_line(error)}; the earlier ones "
            "are whole; free some space and run the same command to continue from them"
        ) from error


def _agreed(good: bool) -> bool:
    """Whether `good` is true in every process."""
    if jax.process_count() == 1:
        return good
    return bool(np.all(multihost_utils.process_allgather(np.array(good))))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
