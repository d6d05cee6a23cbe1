"""The train loop: one run of one optimizer, from any checkpoint to its last event."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from hgeo.checkpoints import Checkpoints
from hgeo.losses import value_and_grad
from hgeo.parallel import AXIS, REPLICATED, data_parallel
from hgeo.progress import Progress
from hgeo.records import GeometryRow, LossRow, RunRecords
from hgeo.schedule import Schedule
from hgeo.workloads import Workload

PyTree = Any


class TrainState(NamedTuple):
    """All that a run needs to go on, besides its config."""

    params: PyTree
    optimizer: optax.OptState
    step: jax.Array


def make_block(
    workload: Workload, optimizer: optax.GradientTransformation, key: jax.Array, mesh: Mesh
) -> Callable[[TrainState, PyTree, jax.Array], tuple[TrainState, jax.Array]]:
    """Compiles a block of updates: `block(state, examples, rows) -> (state, losses)`.

    It scans over the leading axis of `rows`, gathers each batch from the examples on the device,
    and gives every update's loss before it is applied. The state's buffers are used again.
    """

    def update(examples, state: TrainState, rows):
        batch = jax.tree.map(lambda array: array[rows], examples)
        if workload.dropout:
            own = jax.random.fold_in(jax.random.fold_in(key, state.step), jax.lax.axis_index(AXIS))
            batch = {**batch, "dropout_key": own}
        loss, grads = value_and_grad(workload.loss, state.params, batch, AXIS)
        updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1), loss

    def block(state, examples, rows):
        return jax.lax.scan(lambda state, rows: update(examples, state, rows), state, rows)

    specs = (REPLICATED, REPLICATED, PartitionSpec(None, AXIS))
    return data_parallel(block, mesh, specs, REPLICATED, donate_argnums=(0,))


@dataclasses.dataclass(frozen=True)
class Run:
    """One trajectory: an optimizer, from the common initial weights, with one order of the data.

    Attributes:
      name: the optimizer's name.
      schedule: when it trains and is probed.
      block: from `make_block`.
      initial: makes the state before the first update.
      probe: `probe(params)` -> the probe batch's loss, and (layer number, layer, statistic, value)
        for every statistic of every layer.
      examples: the training examples, on the devices.
      records: what it has recorded.
      checkpoints: where its states are kept.
    """

    name: str
    schedule: Schedule
    block: Callable[..., tuple[TrainState, jax.Array]]
    initial: Callable[[], TrainState]
    probe: Callable[[PyTree], tuple[float, list[tuple[int, str, str, float]]]]
    examples: PyTree
    records: RunRecords
    checkpoints: Checkpoints

    def go_on(self, progress: Progress) -> None:
        """Does what is missing: trains to every event without a checkpoint, probes where due.

        Stopped at any moment and called again, it ends with the numbers of an undisturbed run. It
        stops at the first loss that isn't finite; the loss stays in the records.
        """
        state = None
        saved = set(self.checkpoints.steps())
        for step in self._reachable_events():
            if step not in saved:
                state = self._before(step, saved) if state is None else state
                state = self._train(state, step, progress)
                self.records.write()
                if (end := self.records.diverged_at) is not None:
                    progress.say(
                        f"{self.name}, repeat {self.schedule.repeat}: diverged, the loss at step "
                        f"{end} is {self.records.losses[end].loss}; the other runs go on"
                    )
                    return
                self.checkpoints.save(step, state)
                saved.add(step)
            else:
                state = None
            if step in self.schedule.probe_steps and step not in self.records.geometry:
                state = self.checkpoints.restore(step, self.initial()) if state is None else state
                self._probe(state, step, progress)

    def missing(self) -> tuple[int, int]:
        """Updates and probes still to do."""
        saved = set(self.checkpoints.steps())
        steps, last = 0, 0
        for step in self._reachable_events():
            steps += 0 if step in saved else step - last
            last = step
        probed = self.records.geometry
        due = [s for s in self.schedule.probe_steps if s in self._reachable_events()]
        return steps, sum(step not in probed for step in due)

    def _reachable_events(self) -> list[int]:
        end = self.records.diverged_at
        return [step for step in self.schedule.events if end is None or step <= end]

    def _before(self, step: int, saved: set[int]) -> TrainState:
        earlier = [s for s in saved if s < step]
        if not earlier:
            return self.initial()
        return self.checkpoints.restore(max(earlier), self.initial())

    def _train(self, state: TrainState, stop: int, progress: Progress) -> TrainState:
        fetch = None
        for first, last in self.schedule.blocks(int(state.step), stop):
            began = time.perf_counter()
            state, losses = self.block(state, self.examples, self.schedule.rows(first, last))
            if fetch is not None:
                self._record(*fetch)
            fetch = (first, losses)
            if self.records.diverged_at is not None:
                return state
            doing = f"{self.name}, repeat {self.schedule.repeat}: step {last}"
            progress.done("step", last - first, time.perf_counter() - began, doing)
        if fetch is not None:
            self._record(*fetch)
        return state

    def _record(self, first: int, losses: jax.Array) -> None:
        for step, loss in enumerate(np.asarray(losses).tolist(), start=first):
            epoch = self.schedule.epoch(step)
            row = LossRow(self.name, self.schedule.repeat, step, epoch, loss)
            self.records.losses[step] = row
            if not math.isfinite(loss):
                return

    def _probe(self, state: TrainState, step: int, progress: Progress) -> None:
        began = time.perf_counter()
        loss, statistics = self.probe(state.params)
        epoch, repeat = self.schedule.epoch(step), self.schedule.repeat
        self.records.geometry[step] = [
            GeometryRow(self.name, repeat, step, epoch, loss, *values) for values in statistics
        ]
        self.records.write()
        seconds = time.perf_counter() - began
        progress.done("probe", 1, seconds, f"{self.name}, repeat {repeat}: probed step {step}")
        progress.say(
            f"{self.name}, repeat {repeat}, step {step} of {self.schedule.steps}: loss {loss:.4f}, "
            f"probed in {seconds:.1f} s; {progress.estimate()}"
        )
