"""The train loop: runs of one optimizer, from any checkpoint to their last event."""

import time
from collections.abc import Sequence

import jax
import numpy as np

from hgeo.devices import in_turn
from hgeo.training.checkpoints import DamagedCheckpoint
from hgeo.training.progress import Progress
from hgeo.training.run import Run
from hgeo.training.updates import TrainState, UpdateInfo


def train(runs: Sequence[Run], progress: Progress) -> None:
    """Completes runs that can be trained together.

    Trains to every event without a checkpoint and measures where due; runs at one step are one
    program. A call that is stopped and repeated ends with the numbers of an undisturbed call. A run
    stops at its first update that isn't finite, which its records keep, and the other runs
    continue. After a damaged checkpoint it prints a line and restarts from the checkpoint before.

    Args:
      runs: they share one `updates` and one set of events.
      progress: shows what is done.

    Raises:
      InputError: no checkpoint of a run can be trusted, or none can be written.
      Preempted: a signal asked to stop, and all states are saved.
    """
    while True:
        try:
            return _train_to_each_event(runs, progress)
        except DamagedCheckpoint as damage:
            progress.say(f"{damage}; continuing from the checkpoint before")


def state_at(run: Run, step: int, progress: Progress) -> TrainState:
    """The state of a run at a step, to which it is trained where there is no whole checkpoint."""
    run.records.is_archived = False  # an archive lacks the state
    while True:
        train([run.with_event(step)], progress)
        try:
            return run.checkpoints.restore(step, run.like())
        except DamagedCheckpoint as damage:
            progress.say(f"{damage}; training again from the checkpoint before")


def _train_to_each_event(runs: Sequence[Run], progress: Progress) -> None:
    states: dict[int, TrainState] = {}
    saved = [run.saved() for run in runs]
    left = [run.events_left(steps) for run, steps in zip(runs, saved, strict=True)]
    for step in sorted({step for events in left for step in events}):
        live = [
            k for k, run in enumerate(runs) if step in left[k] and step in run.reachable_events()
        ]
        behind = [k for k in live if step not in saved[k]]
        states = {k: states.get(k) or runs[k].before(step, saved[k]) for k in behind}
        begun = {k: int(state.step) for k, state in states.items()}
        for start in sorted(set(begun.values())):
            together = [k for k in behind if begun[k] == start]
            ends = _update_until(
                step, [runs[k] for k in together], [states[k] for k in together], progress
            )
            states |= dict(zip(together, ends, strict=True))
        for k in behind:
            runs[k].records.write()
            if _diverged(runs[k], step, progress):
                del states[k]
            elif int(states[k].step) > begun[k] or begun[k] == step:
                runs[k].save(states[k], saved[k])
        if any(int(state.step) < step for state in states.values()):
            raise runs[0].preemption.stopped()
        for k in live:
            if step in runs[k].reachable_events():
                runs[k].measure_due(states.get(k), step, progress)


def _diverged(run: Run, step: int, progress: Progress) -> bool:
    diverged = step not in run.reachable_events()
    if diverged:
        where = f"{run.title}: diverged at step {run.records.diverged_at}"
        progress.say(f"{where} ({run.records.divergence}); the other runs continue")
    return diverged


def _update_until(
    stop: int, runs: Sequence[Run], states: Sequence[TrainState], progress: Progress
) -> list[TrainState]:
    """Updates all runs up to `stop`, or until all diverged or a signal asks to stop."""
    first_run, start = runs[0], int(states[0].step)
    updates = first_run.updates
    packed = updates.pack(states)
    rates = [run.rate for run in runs]
    unrecorded, stopping = None, False

    for first, last in first_run.timeline.blocks(start, stop):
        began = time.perf_counter()
        infos = []
        batches = np.stack([run.timeline.batches(first, last) for run in runs], axis=1)
        for step, batch in enumerate(batches, start=first + 1):
            packed, info = in_turn(updates(packed, first_run.examples, batch, rates))
            infos.append(info)
            if stopping := step < stop and first_run.preemption.requested():
                break
        if unrecorded is not None:
            _record(runs, states, *unrecorded)
        unrecorded = (first, infos)
        ends = [run.records.diverged_at for run in runs]
        if stopping or all(end is not None and end < last for end in ends):
            break
        titles = ", ".join(run.title for run in runs)
        seconds = time.perf_counter() - began
        progress.done("step", (last - first) * len(runs), seconds, f"{titles}: step {last}")
    if unrecorded is not None:
        _record(runs, states, *unrecorded)
    return updates.unpack(packed, len(runs))


def _record(
    runs: Sequence[Run], states: Sequence[TrainState], first: int, infos: Sequence[UpdateInfo]
) -> None:
    """Fetches what the updates from a step on returned, and records it run by run."""
    by_run = [
        np.stack(part).reshape(len(infos), len(runs)).T
        for part in zip(*jax.device_get(infos), strict=True)
    ]
    for run, state, losses, numbers in zip(runs, states, *by_run, strict=True):
        end = run.records.diverged_at
        if end is None or first <= end:
            own_infos = zip(map(float, losses), map(int, numbers), strict=True)
            run.record(first, own_infos, state)
