"""Runs: one trajectory, what is kept of it, and what of it is still missing."""

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hgeo.records.run_records import LossRow, NotFiniteRow, RunRecords
from hgeo.training.checkpoints import Checkpoints, DamagedCheckpoint
from hgeo.training.finite import describe
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress
from hgeo.training.timeline import Schedule
from hgeo.training.updates import TrainState, Updates

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Something that is measured of a run at given steps.

    Attributes:
      kind: `"probe"`, `"evaluation"` or `"loss"` (that of the probe's batch, without a word).
      steps: when it is due.
      measure: state -> the rows' values behind optimizer, repeat, step and epoch, a line, and
        arrays to be kept by name.
      row: the rows' type.
      rows: what has been measured, by step.
    """

    kind: str
    steps: tuple[int, ...]
    measure: Callable[[TrainState], tuple[list[tuple], str, dict[str, np.ndarray]]]
    row: type
    rows: dict[int, list[Any]]


@dataclasses.dataclass(frozen=True)
class Run:
    """One trajectory: an optimizer, from the common initial weights, with one order of the data.

    Attributes:
      name: the optimizer's name.
      schedule: when it trains and is probed.
      updates: what does the updates of this run, alone or with others.
      rate: its learning rate.
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
    updates: Updates
    rate: float
    initial: Callable[[], TrainState]
    like: Callable[[], TrainState]
    measurements: tuple[Measurement, ...]
    examples: PyTree
    records: RunRecords
    checkpoints: Checkpoints
    keep_all: bool
    preemption: Preemption

    @property
    def title(self) -> str:
        """Its name and repeat, for messages."""
        return f"{self.name}, repeat {self.schedule.repeat}"

    def measure_saved(self, kind: str, progress: Progress) -> None:
        """Measures one kind where due at whole checkpoints, and says where there is none."""
        saved = set(self.checkpoints.steps())
        for measurement in (m for m in self.measurements if m.kind == kind):
            for step in sorted(set(measurement.steps) - set(measurement.rows)):
                if step not in saved:
                    progress.say(f"{self.title}: no checkpoint at step {step}")
                    continue
                try:
                    state = self.checkpoints.restore(step, self.like())
                except DamagedCheckpoint as damage:
                    progress.say(f"{self.title}: {damage}; nothing is measured there")
                else:
                    self._measure(measurement, state, step, progress)

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
        saved, events = self.saved(), self.reachable_events()
        missing, last = Counter(), self.schedule.start
        for step in self.events_left(saved):
            missing["step"] += 0 if step in saved else step - last
            last = step
        for measurement in self.measurements:
            due = set(measurement.steps) & set(events)
            missing[measurement.kind] += len(due - set(measurement.rows))
        return missing

    def saved(self) -> set[int]:
        """The steps to go on from: those with a checkpoint and, in the records, all losses before.

        Where losses are lacking (a file of records was cut short), their updates are done again.
        """
        steps = range(self.schedule.start, self.schedule.steps)
        lacking = next((s for s in steps if s not in self.records.losses), self.schedule.steps)
        return {step for step in self.checkpoints.steps() if step <= lacking}

    def reachable_events(self) -> list[int]:
        """Steps with a checkpoint, up to where it diverged."""
        end = self.records.diverged_at
        return [step for step in self.schedule.events if end is None or step <= end]

    def events_left(self, saved: set[int]) -> list[int]:
        """The reachable events, without those that are over and whose checkpoint was dropped."""
        last = max(saved, default=-1)

        def over(step):
            due = any(step in m.steps and step not in m.rows for m in self.measurements)
            kept = step in self.schedule.kept(self.keep_all)
            return step < last and step not in saved and not due and not kept

        return [step for step in self.reachable_events() if not over(step)]

    def before(self, step: int, saved: set[int]) -> TrainState:
        """The last saved state before a step."""
        earlier = [s for s in saved if s < step]
        if not earlier:
            return self.initial()
        return self.checkpoints.restore(max(earlier), self.like())

    def save(self, state: TrainState, saved: set[int]) -> None:
        """Saves a state, and drops those that are no longer wanted; keeps `saved` true."""
        step = int(state.step)
        self.checkpoints.save(step, state)
        for earlier in {s for s in saved if s < step} - self.schedule.kept(self.keep_all):
            self.checkpoints.drop(earlier)
            saved.remove(earlier)
        saved.add(step)

    def record(self, first: int, told: Iterable[tuple[float, int]], state: TrainState) -> None:
        """Records the losses from a step on, up to the first update that isn't finite.

        Args:
          first: the step of the first of them.
          told: the loss before each update, and the number of what is not finite of it.
          state: one of this run, for the meaning of that number.
        """
        for step, (loss, number) in enumerate(told, start=first):
            place = (self.name, self.schedule.repeat, step, self.schedule.epoch(step))
            self.records.losses[step] = LossRow(*place, loss)
            if math.isfinite(loss) and number < 0:
                continue
            quantity, layer = ("", "")
            if number >= 0:
                quantity, layer = describe(number, state.optimizer, state.variables)
            if not math.isfinite(loss):
                quantity = "loss"
            self.records.not_finite[step] = NotFiniteRow(*place, quantity, layer)
            return

    def measure_due(self, state: TrainState | None, step: int, progress: Progress) -> None:
        """Measures what is due at a step and not yet measured; restores the state if need be.

        Raises:
          Preempted: it was asked to stop.
        """
        for measurement in self.measurements:
            if step in measurement.steps and step not in measurement.rows:
                restored = self.checkpoints.restore(step, self.like()) if state is None else state
                state = restored
                self._measure(measurement, restored, step, progress)
                if self.preemption.requested(step):
                    raise self.preemption.stopped()

    def _measure(
        self, measurement: Measurement, state: TrainState, step: int, progress: Progress
    ) -> None:
        began = time.perf_counter()
        values, said, arrays = measurement.measure(state)
        if arrays:
            self.records.write_arrays(step, arrays)
        place = (self.name, self.schedule.repeat, step, self.schedule.epoch(step))
        measurement.rows[step] = [measurement.row(*place, *value) for value in values]
        self.records.write()
        seconds = time.perf_counter() - began
        where = f"{self.title}, step {step}"
        progress.done(measurement.kind, 1, seconds, where)
        if said:
            progress.say(
                f"{where} of {self.schedule.steps}: {said}; {measurement.kind} of {seconds:.1f} s, "
                f"{progress.estimate()}"
            )
