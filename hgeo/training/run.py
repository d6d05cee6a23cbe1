"""A run: one trajectory, its records and its checkpoints."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hgeo.records.run_records import MEASURED_ROWS, LossRow, NotFiniteRow, RunRecords
from hgeo.training.checkpoints import Checkpoints, DamagedCheckpoint
from hgeo.training.finite import describe
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress
from hgeo.training.remaining import (
    Due,
    Remaining,
    events_left,
    reachable_events,
    trusted_steps,
    what_is_left,
)
from hgeo.training.timeline import Timeline
from hgeo.training.updates import TrainState, Updates

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ScheduledMeasurement:
    """Something that is measured of a run at given steps.

    Attributes:
      kind: `"probe"`, `"evaluation"` or `"loss"` (of the probe's batch, which prints no line).
      steps: when it is due.
      measure: state -> the rows' values after optimizer, repeat, step and epoch; a line to print;
        and named arrays to keep.
    """

    kind: str
    steps: tuple[int, ...]
    measure: Callable[[TrainState], tuple[list[tuple], str, dict[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Run:
    """One trajectory: an optimizer, from the common initial weights, with one order of the data.

    Attributes:
      name: the optimizer's name.
      timeline: when it trains and is probed.
      updates: what does the updates of this run, alone or with others.
      rate: its learning rate.
      initial: makes the state before the first update.
      like: makes a state with the structure, shapes and placement of a restored one.
      measurements: what is measured along the way.
      examples: the training examples, on the devices.
      records: what it has recorded.
      checkpoints: where its states are kept.
      keep_all: whether checkpoints at which nothing was measured are kept when later ones exist.
      preemption: says when to stop.
    """

    name: str
    timeline: Timeline
    updates: Updates
    rate: float
    initial: Callable[[], TrainState]
    like: Callable[[], TrainState]
    measurements: tuple[ScheduledMeasurement, ...]
    examples: PyTree
    records: RunRecords
    checkpoints: Checkpoints
    keep_all: bool
    preemption: Preemption

    @property
    def title(self) -> str:
        """Its name and repeat, for messages."""
        return f"{self.name}, repeat {self.timeline.repeat}"

    @property
    def due(self) -> Due:
        """The steps of each kind of measurement."""
        return {measurement.kind: measurement.steps for measurement in self.measurements}

    def measured_at(self, kind: str, step: int) -> "Run":
        """The run with another step at which a measurement of that kind is due."""
        measurements = [
            dataclasses.replace(m, steps=(*m.steps, step)) if m.kind == kind else m
            for m in self.measurements
        ]
        return dataclasses.replace(self.with_event(step), measurements=tuple(measurements))

    def with_event(self, step: int) -> "Run":
        """The run with another step at which its state is kept."""
        steps = (*self.timeline.measured_steps, step)
        timeline = dataclasses.replace(self.timeline, measured_steps=steps)
        return dataclasses.replace(self, timeline=timeline)

    def left(self) -> Remaining:
        """What is left to do of it."""
        saved = self.checkpoints.steps()
        return what_is_left(self.timeline, self.due, self.records, saved, self.keep_all)

    def saved(self) -> set[int]:
        """The steps that have a whole checkpoint and, in the records, all losses before."""
        return trusted_steps(self.timeline, self.records, self.checkpoints.steps())

    def reachable_events(self) -> list[int]:
        """Steps with a checkpoint, up to where it diverged."""
        return reachable_events(self.timeline, self.records)

    def events_left(self, saved: set[int]) -> list[int]:
        """The reachable events, without those that are over and whose checkpoint was dropped."""
        return events_left(self.timeline, self.due, self.records, saved, self.keep_all)

    def before(self, step: int, saved: set[int]) -> TrainState:
        """The last saved state before a step."""
        earlier = [s for s in saved if s < step]
        if not earlier:
            return self.initial()
        return self.checkpoints.restore(max(earlier), self.like())

    def save(self, state: TrainState, saved: set[int]) -> None:
        """Saves a state, and deletes those that are no longer needed; updates `saved`."""
        step = int(state.step)
        self.checkpoints.save(step, state)
        for earlier in {s for s in saved if s < step} - self.timeline.kept(self.keep_all):
            self.checkpoints.drop(earlier)
            saved.remove(earlier)
        saved.add(step)

    def record(self, first: int, infos: Iterable[tuple[float, int]], state: TrainState) -> None:
        """Records the losses from a step on, up to the first update that isn't finite.

        Args:
          first: the step of the first of them.
          infos: of each update the loss before it, and the number of its first array that is not
            finite.
          state: a state of this run, whose structure gives that number's meaning.
        """
        for step, (loss, number) in enumerate(infos, start=first):
            place = self._place(step)
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
        """Measures what is due at a step and not yet measured; restores the state if necessary.

        Raises:
          Preempted: a signal asked to stop.
        """
        for measurement in self.measurements:
            if step in measurement.steps and step not in self.records.measured(measurement.kind):
                restored = self.checkpoints.restore(step, self.like()) if state is None else state
                state = restored
                self._measure(measurement, restored, step, progress)

    def measurable(self, kind: str) -> list[int]:
        """Whole checkpoints at which a kind of measurement is due and not yet made."""
        saved = set(self.checkpoints.steps())
        return [step for step in self._unmeasured(kind) if step in saved]

    def _unmeasured(self, kind: str) -> list[int]:
        return sorted(set(self.due[kind]) - self.records.measured(kind).keys())

    def measure_saved(self, kind: str, progress: Progress) -> None:
        """Measures one kind where due at whole checkpoints, and says where there is none.

        Raises:
          Preempted: a signal asked to stop.
        """
        whole = self.measurable(kind)
        for measurement in (m for m in self.measurements if m.kind == kind):
            for step in self._unmeasured(kind):
                if step not in whole:
                    progress.say(f"{self.title}: no checkpoint at step {step}")
                    continue
                try:
                    state = self.checkpoints.restore(step, self.like())
                except DamagedCheckpoint as damage:
                    progress.say(f"{self.title}: {damage}; nothing is measured there")
                else:
                    self._measure(measurement, state, step, progress)

    def _measure(
        self, measurement: ScheduledMeasurement, state: TrainState, step: int, progress: Progress
    ) -> None:
        began, kind = time.perf_counter(), measurement.kind
        values, line, arrays = measurement.measure(state)
        if arrays:
            self.records.write_arrays(step, arrays)
        row_type, place = MEASURED_ROWS[kind], self._place(step)
        self.records.measured(kind)[step] = [row_type(*place, *value) for value in values]
        self.records.write()
        seconds = time.perf_counter() - began
        where = f"{self.title}, step {step}"
        progress.done(kind, 1, seconds, where)
        if line:
            progress.say(
                f"{where} of {self.timeline.steps}: {line}; {kind} of {seconds:.1f} s, "
                f"{progress.estimate()}"
            )
        if self.preemption.requested():
            raise self.preemption.stopped()

    def _place(self, step: int) -> tuple[str, int, int, float]:
        """The first columns of every row."""
        return self.name, self.timeline.repeat, step, self.timeline.epoch(step)
