"""The train loop: one run of one optimizer, from any checkpoint to its last event."""

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from hgeo.checkpoints import Checkpoints
from hgeo.losses import mean_over_devices, to_weighted, value_and_grad
from hgeo.parallel import AXIS, REPLICATED, SHARDED, data_parallel, in_turn
from hgeo.preemption import Preemption
from hgeo.progress import Progress
from hgeo.records import LossRow, RunRecords
from hgeo.schedule import Schedule
from hgeo.workloads.workload import Workload

PyTree = Any


class TrainState(NamedTuple):
    """All that a run needs to go on, besides its config."""

    variables: PyTree
    optimizer: optax.OptState
    step: jax.Array


def update_on_device(
    workload: Workload, optimizer: optax.GradientTransformation, key: jax.Array
) -> Callable[[TrainState, PyTree, jax.Array], tuple[TrainState, jax.Array]]:
    """One update as a device does it: `update(state, examples, rows) -> (state, loss before it)`.

    `rows` are the device's share of the batch, which it gathers from the examples.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def update(state: TrainState, examples, rows):
        batch = jax.tree.map(lambda array: array[rows], examples)
        if workload.dropout:
            own = jax.random.fold_in(jax.random.fold_in(key, state.step), jax.lax.axis_index(AXIS))
            batch = {**batch, "dropout_key": own}
        params = state.variables["params"]
        loss_of = lambda params, batch: workload.training_loss(
            {**state.variables, "params": params}, batch
        )
        loss, grads, collections = value_and_grad(loss_of, params, batch, AXIS)
        # What some of Optax's optimizers ask for besides (Sophia's estimate of the curvature).
        mean_loss = lambda params: mean_over_devices(to_weighted(loss_of(params, batch)[0]), AXIS)
        more = {"value": loss, "grad": grads, "value_fn": mean_loss, "obj_fn": mean_loss}
        updates, opt_state = optimizer.update(grads, state.optimizer, params, **more)
        variables = {**collections, "params": optax.apply_updates(params, updates)}
        return TrainState(variables, opt_state, state.step + 1), loss

    return update


def make_update(
    workload: Workload, optimizer: optax.GradientTransformation, key: jax.Array, mesh: Mesh
) -> Callable[[TrainState, PyTree, jax.Array], tuple[TrainState, jax.Array]]:
    """Compiles one update over all devices; the state's buffers are used again.

    No loop of updates is compiled: on a CPU, XLA's gradients of convolutions are some forty times
    slower inside one.
    """
    specs = (REPLICATED, REPLICATED, SHARDED)
    update = update_on_device(workload, optimizer, key)
    return data_parallel(update, mesh, specs, REPLICATED, donate_argnums=(0,))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Something that is measured of a run at given steps.

    Attributes:
      kind: `"probe"` or `"evaluation"`.
      steps: when it is due.
      measure: variables -> the rows' values behind optimizer, repeat, step and epoch, and a line.
      row: the rows' type.
      rows: what has been measured, by step.
    """

    kind: str
    steps: tuple[int, ...]
    measure: Callable[[PyTree], tuple[list[tuple], str]]
    row: type
    rows: dict[int, list[Any]]


@dataclasses.dataclass(frozen=True)
class Run:
    """One trajectory: an optimizer, from the common initial weights, with one order of the data.

    Attributes:
      name: the optimizer's name.
      schedule: when it trains and is probed.
      update: from `make_update`.
      initial: makes the state before the first update.
      like: makes a state of the same structure, shapes and placement.
      measurements: what is measured along the way.
      examples: the training examples, on the devices.
      records: what it has recorded.
      checkpoints: where its states are kept.
      keep_all: whether checkpoints at which nothing was measured are kept when later ones exist.
      preemption: what may ask it to stop.
    """

    name: str
    schedule: Schedule
    update: Callable[..., tuple[TrainState, jax.Array]]
    initial: Callable[[], TrainState]
    like: Callable[[], TrainState]
    measurements: tuple[Measurement, ...]
    examples: PyTree
    records: RunRecords
    checkpoints: Checkpoints
    keep_all: bool
    preemption: Preemption

    def go_on(self, progress: Progress) -> None:
        """Does what is missing: trains to every event without a checkpoint, measures where due.

        Stopped at any moment and called again, it ends with the numbers of an undisturbed run. It
        stops at the first loss that isn't finite; the loss stays in the records.

        Raises:
          Preempted: it was asked to stop, and has saved its state.
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
                self._save(state, saved)
                if int(state.step) < step:
                    raise self.preemption.stopped()
            else:
                state = None
            for measurement in self.measurements:
                if step in measurement.steps and step not in measurement.rows:
                    if state is None:
                        state = self.checkpoints.restore(step, self.like())
                    self._measure(measurement, state, step, progress)
                    if self.preemption.requested(step):
                        raise self.preemption.stopped()

    def measure_saved(self, kind: str, progress: Progress) -> None:
        """Measures one kind where due at checkpoints that exist, and says where there is none."""
        saved = set(self.checkpoints.steps())
        for measurement in (m for m in self.measurements if m.kind == kind):
            for step in sorted(set(measurement.steps) - set(measurement.rows)):
                if step in saved:
                    state = self.checkpoints.restore(step, self.like())
                    self._measure(measurement, state, step, progress)
                else:
                    progress.say(
                        f"{self.name}, repeat {self.schedule.repeat}: no checkpoint at step {step}"
                    )

    def measured_at(self, kind: str, step: int) -> "Run":
        """The run with one more step at which something of that kind is due."""
        measurements = [
            dataclasses.replace(m, steps=(*m.steps, step)) if m.kind == kind else m
            for m in self.measurements
        ]
        return dataclasses.replace(self.with_event(step), measurements=tuple(measurements))

    def with_event(self, step: int) -> "Run":
        """The run with one more step at which its state is kept."""
        steps = (*self.schedule.measured_steps, step)
        schedule = dataclasses.replace(self.schedule, measured_steps=steps)
        return dataclasses.replace(self, schedule=schedule)

    def missing(self) -> Counter[str]:
        """Updates (`"step"`) and measurements, by their kind, still to do."""
        saved, events = set(self.checkpoints.steps()), self._reachable_events()
        missing, last = Counter(), self.schedule.start
        for step in events:
            missing["step"] += 0 if step in saved else step - last
            last = step
        for measurement in self.measurements:
            due = set(measurement.steps) & set(events)
            missing[measurement.kind] += len(due - set(measurement.rows))
        return missing

    def _reachable_events(self) -> list[int]:
        end = self.records.diverged_at
        return [step for step in self.schedule.events if end is None or step <= end]

    def _before(self, step: int, saved: set[int]) -> TrainState:
        earlier = [s for s in saved if s < step]
        if not earlier:
            return self.initial()
        return self.checkpoints.restore(max(earlier), self.like())

    def _save(self, state: TrainState, saved: set[int]) -> None:
        step = int(state.step)
        self.checkpoints.save(step, state)
        if not self.keep_all:
            wanted = {*self.schedule.measured_steps, self.schedule.steps}
            for earlier in {s for s in saved if s < step} - wanted:
                self.checkpoints.drop(earlier)
                saved.remove(earlier)
        saved.add(step)

    def _train(self, state: TrainState, stop: int, progress: Progress) -> TrainState:
        """Updates to step `stop`, or to where it diverged or was asked to stop."""
        fetch, stopping = None, False
        for first, last in self.schedule.blocks(int(state.step), stop):
            began = time.perf_counter()
            losses = []
            for step, rows in enumerate(self.schedule.rows(first, last), start=first + 1):
                state, loss = in_turn(self.update(state, self.examples, rows))
                losses.append(loss)
                if stopping := step < stop and self.preemption.requested(step):
                    break
            if fetch is not None:
                self._record(*fetch)
            fetch = (first, losses)
            if stopping or self.records.diverged_at is not None:
                break
            doing = f"{self.name}, repeat {self.schedule.repeat}: step {last}"
            progress.done("step", last - first, time.perf_counter() - began, doing)
        if fetch is not None:
            self._record(*fetch)
        return state

    def _record(self, first: int, losses: list[jax.Array]) -> None:
        for step, loss in enumerate(map(float, jax.device_get(losses)), start=first):
            epoch = self.schedule.epoch(step)
            row = LossRow(self.name, self.schedule.repeat, step, epoch, loss)
            self.records.losses[step] = row
            if not math.isfinite(loss):
                return

    def _measure(
        self, measurement: Measurement, state: TrainState, step: int, progress: Progress
    ) -> None:
        began = time.perf_counter()
        values, said = measurement.measure(state.variables)
        place = (self.name, self.schedule.repeat, step, self.schedule.epoch(step))
        measurement.rows[step] = [measurement.row(*place, *value) for value in values]
        self.records.write()
        seconds = time.perf_counter() - began
        where = f"{self.name}, repeat {self.schedule.repeat}, step {step}"
        progress.done(measurement.kind, 1, seconds, where)
        progress.say(
            f"{where} of {self.schedule.steps}: {said}; {measurement.kind} of {seconds:.1f} s, "
            f"{progress.estimate()}"
        )
