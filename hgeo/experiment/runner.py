"""The runner: trains and measures the runs of an experiment in one process."""

import contextlib
import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from hgeo.experiment.disk_use import checkpoint_bytes, disk_line
from hgeo.experiment.left_of_run import left_of_run, searches_left
from hgeo.experiment.order_of_runs import PlannedRun, families, groups_of, runs_of_share
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved
from hgeo.experiment.run_timeline import run_timeline
from hgeo.experiment.same_loss import iterate_row, targets
from hgeo.experiment.scheduled_measurements import scheduled_measurements
from hgeo.experiment.shared_resources import (
    SharedResources,
    initial_state,
    make_updates,
    optimizer_view,
)
from hgeo.experiment.start_iterate import find_start, known_starts, start_state
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import RunRecords, remove_partial
from hgeo.training.checkpoints import Checkpoints
from hgeo.training.locks import RunLock
from hgeo.training.loop import state_at, train
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress
from hgeo.training.run import Run
from hgeo.training.updates import TrainState


class Runner:
    """Trains and measures the runs of an experiment, and opens each when it is needed.

    A run that starts at another run's iterate comes after it. When a run is done, the runner finds
    and probes its iterates at the compared losses.
    """

    def __init__(
        self,
        resources: SharedResources,
        folder: WorkFolder,
        preemption: Preemption,
        progress: Progress,
    ):
        """Opens no run yet.

        Args:
          resources: of the experiment.
          folder: where its runs are kept.
          preemption: says when to stop.
          progress: shows what is done.
        """
        self._resources, self._resolved, self._folder = resources, resources.resolved, folder
        self._preemption, self._progress = preemption, progress
        plans = {plan.family: plan for plan in self._resolved.plans}
        self._updates = {family: make_updates(resources, p) for family, p in plans.items()}
        self._views = {p.name: optimizer_view(self._resolved, p) for p in self._resolved.plans}
        self._runs: dict[tuple[str, int], Run] = {}
        self._locks: list[RunLock] = []

    def train(self) -> None:
        """Completes every run of this process's share.

        Raises:
          InputError: another process works on a run of the share.
          Preempted: a signal asked to stop, and the states are saved.
        """
        planned = runs_of_share(self._resolved)
        needed = checkpoint_bytes(self._resolved, self._resources.variables, self._folder, planned)
        self._progress.say(disk_line(needed, self._folder.path))
        for plan, repeat in planned:
            if not plan.start_run:
                self._open(plan, repeat)
        groups = [
            group
            for family in families(planned)
            for group in groups_of(family, self._together(family))
        ]
        for k, group in enumerate(groups):
            # Counted for each group again: a run that diverged leaves steps undone, and a loss that
            # was not reached leaves no probe.
            later, losses = itertools.chain(*groups[k:]), self._losses()
            self._progress.expect(_left(self._resolved, self._folder, self._runs, later, losses))
            opened = [self._runs.get((p.name, r)) or self._begin(p, r) for p, r in group]
            runs = [run for run in opened if run is not None]
            if runs:
                train(runs, self._progress)
            self._search_same_losses(runs)

    def probe_saved(self, folder: WorkFolder) -> None:
        """Probes the checkpoints of this process's share; the records go to another folder.

        Raises:
          InputError: another process works on a run of the share.
          Preempted: a signal asked to stop.
        """
        planned = runs_of_share(self._resolved)
        runs = [self._open_saved(plan, repeat, folder) for plan, repeat in planned]
        self._progress.expect({"probe": sum(len(run.measurable("probe")) for run in runs)})
        for run in runs:
            run.measure_saved("probe", self._progress)
            run.records.write()

    def close(self) -> None:
        """Waits for the checkpoints and releases the locks."""
        with contextlib.ExitStack() as last:
            for lock in self._locks:
                last.callback(lock.release)
            for run in self._runs.values():
                last.callback(run.checkpoints.close)

    def _together(self, family: Sequence[PlannedRun]) -> int:
        """How many runs of a family are trained together: the config's number, if it fits."""
        size = min(self._resolved.runs_together, len(family))
        if size == 1:
            return 1
        runs = [self._runs[plan.name, repeat] for plan, repeat in family]
        if not any(run.left().updates for run in runs):
            return size  # nothing to train, so nothing to compile
        first = runs[0]
        fits, sizes = first.updates.fits(
            first.like(), first.examples, self._resolved.batch_size, size
        )
        if not fits:
            names = ", ".join(dict.fromkeys(run.name for run in runs))
            self._progress.say(
                f"{names}: {size} runs together take {sizes}; they are trained one after another"
            )
        return size if fits else 1

    def _losses(self) -> tuple[float, ...]:
        """The compared losses, as far as they are known."""
        reference = self._runs.get((self._resolved.same_loss.reference, 0))
        records = None if reference is None else reference.records
        return targets(self._resolved, self._folder, records)

    def _begin(self, plan: RunPlan, repeat: int) -> Run | None:
        """The run at another run's iterate, or `None` if the other run never reached it."""
        parent = self._runs.get((plan.start_run, repeat))
        parent_records = None if parent is None else parent.records
        row, line = find_start(plan, repeat, parent_records, self._resolved.same_loss)
        if parent is None or row.step < 0:
            records = RunRecords(self._folder.run_folder(plan.name, repeat))
            records.iterates["start", row.target] = row
            records.write()
            self._progress.say(line)
            return None

        # Another branch may train the other run again, which keeps this start's checkpoint.
        parent = self._runs[plan.start_run, repeat] = parent.with_event(row.step)

        def initial() -> TrainState:
            before = state_at(parent, row.step, self._progress)
            return start_state(plan, before, initial_state(self._resources, plan))

        run = self._open(plan, repeat, initial, row.step)
        run.records.iterates["start", row.target] = row
        return run

    def _search_same_losses(self, runs: Sequence[Run]) -> None:
        """Finds the iterates at the compared losses and probes them."""
        settings, losses = self._resolved.same_loss, self._losses()
        for run in runs:
            for loss in losses:
                repeat = run.timeline.repeat
                row = iterate_row(settings, run.records, "same_loss", loss, run.name, repeat)
                run.records.iterates["same_loss", loss] = row
                run.records.write()
                where = f"{run.title}: loss {loss}"
                if row.step < 0:
                    self._progress.say(f"{where} was never reached; the lowest is {row.loss:.4g}")
                else:
                    self._progress.say(f"{where} at step {row.step} ({row.loss:.4g})")
                    run = self._runs[run.name, repeat] = run.measured_at("probe", row.step)
                    train([run], self._progress)

    def _open_saved(self, plan: RunPlan, repeat: int, folder: WorkFolder) -> Run:
        """A trained run, whose probes are recorded in another folder."""
        trained = RunRecords(self._folder.run_folder(plan.name, repeat))
        records = RunRecords(folder.run_folder(plan.name, repeat))
        self._say_all(trained.repairs)
        records.losses, records.not_finite = trained.losses, trained.not_finite
        records.iterates = trained.iterates
        run = self._open(plan, repeat, records=records)
        for step in records.same_loss_steps:
            run = run.measured_at("probe", step)
        return run

    def _open(
        self,
        plan: RunPlan,
        repeat: int,
        initial: Callable[[], TrainState] | None = None,
        start: int = 0,
        records: RunRecords | None = None,
    ) -> Run:
        path = self._folder.run_folder(plan.name, repeat)
        self._locks.append(RunLock(path))
        remove_partial(path)
        fresh = functools.partial(initial_state, self._resources, plan)
        records = RunRecords(path) if records is None else records
        if records.repairs:
            self._say_all(records.repairs)
            records.write()
        starts = known_starts(self._resolved, self._folder, plan, repeat)
        iterates = (*records.same_loss_steps, *starts)
        run = Run(
            name=plan.name,
            timeline=run_timeline(self._resolved, plan, repeat, start, iterates),
            updates=self._updates[plan.family],
            rate=plan.rate,
            initial=initial or fresh,
            like=fresh,
            measurements=scheduled_measurements(self._resources, self._views[plan.name]),
            examples=self._resources.examples,
            records=records,
            checkpoints=Checkpoints(path / "checkpoints"),
            keep_all=self._resolved.keep_all,
            preemption=self._preemption,
        )
        self._runs[plan.name, repeat] = run
        return run

    def _say_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._progress.say(line)


def _left(
    resolved: Resolved,
    folder: WorkFolder,
    opened: Mapping[tuple[str, int], Run],
    planned: Iterable[PlannedRun],
    losses: Sequence[float],
) -> Counter[str]:
    """What is left of some runs, the probes at the compared losses among it.

    It is an upper bound, since a run's start may not be known yet, or a loss never be reached.
    """
    left = Counter()
    for plan, repeat in planned:
        run = opened.get((plan.name, repeat))
        if run is not None:
            searches = searches_left(resolved, run.records, losses)
            left += dataclasses.replace(run.left(), searches=searches).counts
        else:
            records = RunRecords(folder.run_folder(plan.name, repeat))
            left += left_of_run(resolved, plan, records, losses).counts
    return left
