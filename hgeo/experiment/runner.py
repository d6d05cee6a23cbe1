"""The team: all runs of a config that one process works on, in an order that serves them."""

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from hgeo.config import Config
from hgeo.experiment.optimizer_transfer import at_step, carried_state
from hgeo.experiment.plan import RunPlan, make_plans
from hgeo.experiment.same_loss import find_iterate, targets, watched_steps
from hgeo.experiment.setup import Setup, adaptivity, initial_state, make_updates
from hgeo.experiment.work_folder import WorkFolder
from hgeo.measure.optimizer_view import Adaptivity
from hgeo.records.run_records import (
    EvaluationRow,
    GeometryRow,
    IterateRow,
    ProbeLossRow,
    RunRecords,
)
from hgeo.training.checkpoints import Checkpoints
from hgeo.training.locks import RunLock
from hgeo.training.loop import go_on, state_at
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress
from hgeo.training.run import Measurement, Run
from hgeo.training.timeline import Schedule
from hgeo.training.updates import TrainState, Updates


class Team:
    """The runs of a config, made as they are needed.

    A run that goes on from another follows it. When a run is done, the iterates at the losses of
    `same_loss.losses` are looked for and probed.
    """

    def __init__(self, config: Config, folder: WorkFolder, setup: Setup, preemption: Preemption):
        """Plans the runs of this process's share; nothing is opened yet."""
        self._config, self._folder, self._setup = config, folder, setup
        self._preemption = preemption
        self._plans = make_plans(config)
        self._runs: dict[tuple[str, int], Run] = {}
        self._locks: list[RunLock] = []
        self._updates: dict[str, Updates] = {}
        self._adaptivity: dict[str, Adaptivity] = {}

    def go_on(self, progress: Progress) -> None:
        """Does what is missing of every run of the share.

        Raises:
          InputError: another process works on one of them.
          Preempted: it was asked to stop, and has saved.
        """
        mine = shared(self._plans, self._config)
        for plan, repeat in mine:
            if not plan.start_run:
                self._open(plan, repeat, progress)
        groups = self._groups(mine, progress)
        for k, group in enumerate(groups):
            # Counted anew for each group, since a run that diverged leaves steps undone.
            later = [one for rest in groups[k:] for one in rest]
            progress.expect(sum((self._missing(*one) for one in later), Counter()))
            opened = (
                self._runs.get((plan.name, repeat)) or self._continued(plan, repeat, progress)
                for plan, repeat in group
            )
            runs = [run for run in opened if run is not None]
            if runs:
                go_on(runs, progress)
            for run in runs:
                self._find_same_loss(run, progress)

    def _groups(
        self, mine: list[tuple[RunPlan, int]], progress: Progress
    ) -> list[list[tuple[RunPlan, int]]]:
        """The runs in the order of work, those that are trained together in one list.

        Those are runs from the common start that differ in repeat and learning rate alone.
        """
        families: dict[Any, list[tuple[RunPlan, int]]] = {}
        for plan, repeat in mine:
            alone = (plan.name, repeat) if plan.start_run else plan.family
            families.setdefault(alone, []).append((plan, repeat))
        groups = []
        for family in families.values():
            size = self._how_many(family, progress)
            groups += [family[k : k + size] for k in range(0, len(family), size)]
        return groups

    def _how_many(self, family: list[tuple[RunPlan, int]], progress: Progress) -> int:
        """How many runs of a family are trained together: as config has it, if they fit."""
        size = min(self._config.runs_together, len(family))
        if size == 1:
            return 1
        plan, repeat = family[0]
        if all(not self._runs[p.name, r].missing()["step"] for p, r in family):
            return size  # nothing to train, so nothing to compile
        run = self._runs[plan.name, repeat]
        like, batch_size = run.like(), self._config.batch_size
        fits, said = run.updates.fits(like, run.examples, batch_size, size)
        if not fits:
            names = ", ".join(dict.fromkeys(p.name for p, _ in family))
            progress.say(
                f"{names}: {size} runs together take {said}; they are trained one after another"
            )
        return size if fits else 1

    def measure_saved(self, apart: WorkFolder, progress: Progress) -> None:
        """Probes the checkpoints of all runs; the records go to the folder `apart`."""
        for plan in self._plans:
            for repeat in range(self._config.repeats):
                trained = RunRecords(self._folder.run_folder(plan.name, repeat))
                records = RunRecords(apart.run_folder(plan.name, repeat))
                for line in trained.repairs:
                    progress.say(line)
                records.losses, records.iterates = trained.losses, trained.iterates
                run = self._open(plan, repeat, progress, records=records)
                for row in records.iterates.values():
                    if row.purpose == "same_loss" and row.step >= 0:
                        run = run.measured_at("probe", row.step)
                run.measure_saved("probe", progress)
                records.write()

    def _missing(self, plan: RunPlan, repeat: int) -> Counter[str]:
        """What is missing of a run; at most this where it is not known yet how far it has come."""
        if (plan.name, repeat) in self._runs:
            return self._runs[plan.name, repeat].missing()
        config = self._config
        steps = config.steps - (plan.start_step or 0)
        probes, evaluations = len(config.probe.steps), len(config.evaluation.steps)
        return Counter(step=steps, probe=probes, evaluation=evaluations)

    def close(self) -> None:
        """Waits for the checkpoints and gives the locks back."""
        with contextlib.ExitStack() as last:
            for lock in self._locks:
                last.callback(lock.release)
            for run in self._runs.values():
                last.callback(run.checkpoints.close)

    def _continued(self, plan: RunPlan, repeat: int, progress: Progress) -> Run | None:
        """The run that goes on from another one, or `None` where that never got there."""
        parent = self._runs.get((plan.start_run, repeat))
        where = f"{plan.name}, repeat {repeat}"
        if parent is None:
            row = IterateRow(plan.name, repeat, "start", plan.start_target, -1, math.nan)
            self._note_start(row, f"{where}: not started, since {plan.start_run} was not", progress)
            return None
        row = self._start(plan, parent)
        if row.step < 0:
            said = f"{where}: not started, since {plan.start_run} never came to its start there"
            self._note_start(row, f"{said} (the lowest loss is {row.loss:.4g})", progress)
            return None

        def initial() -> TrainState:
            before = state_at(parent, row.step, progress)
            new = initial_state(self._config, self._setup, plan)
            optimizer = new.optimizer
            if plan.optimizer_state == "carried":
                optimizer = carried_state(before.optimizer, optimizer, plan)
            optimizer = at_step(optimizer, jnp.copy(before.step))
            return TrainState(before.variables, optimizer, before.step)

        run = self._open(plan, repeat, progress, initial, row.step)
        run.records.iterates["start", row.target] = row
        return run

    def _start(self, plan: RunPlan, parent: Run) -> IterateRow:
        """Where in `parent` a run begins."""
        if plan.start_loss is not None:
            return self._iterate(parent, "start", plan.start_loss, of=plan.name)
        end, step = parent.records.diverged_at, int(plan.start_target)
        reached = end is None or step < end
        loss = parent.records.losses[step].loss if reached else math.nan
        repeat = parent.schedule.repeat
        return IterateRow(
            plan.name, repeat, "start", plan.start_target, step if reached else -1, loss
        )

    def _note_start(self, row: IterateRow, said: str, progress: Progress) -> None:
        records = RunRecords(self._folder.run_folder(row.optimizer, row.repeat))
        records.iterates[row.purpose, row.target] = row
        records.write()
        progress.say(said)

    def _find_same_loss(self, run: Run, progress: Progress) -> None:
        for loss in targets(self._config, self._folder):
            row = self._iterate(run, "same_loss", loss)
            run.records.iterates["same_loss", loss] = row
            run.records.write()
            where = f"{run.name}, repeat {run.schedule.repeat}: loss {loss}"
            if row.step < 0:
                progress.say(f"{where} was never reached; the lowest is {row.loss:.4g}")
            else:
                progress.say(f"{where} at step {row.step} ({row.loss:.4g})")
                run = run.measured_at("probe", row.step)
                go_on([run], progress)

    def _iterate(self, run: Run, purpose: str, loss: float, of: str | None = None) -> IterateRow:
        step, found = find_iterate(self._config, run.records, loss)
        name, repeat = of or run.name, run.schedule.repeat
        return IterateRow(name, repeat, purpose, loss, -1 if step is None else step, found)

    def _open(
        self,
        plan: RunPlan,
        repeat: int,
        progress: Progress,
        initial: Callable[[], TrainState] | None = None,
        start: int = 0,
        records: RunRecords | None = None,
    ) -> Run:
        config = self._config
        path = self._folder.run_folder(plan.name, repeat)
        self._locks.append(RunLock(path))
        if plan.family not in self._updates:
            self._updates[plan.family] = make_updates(config, self._setup, plan)
        fresh = functools.partial(initial_state, config, self._setup, plan)
        records = RunRecords(path) if records is None else records
        if records.repairs:
            for line in records.repairs:
                progress.say(line)
            records.write()
        continued = [p.start_step for p in self._plans if p.start_run == plan.name and p.start_step]
        run = Run(
            name=plan.name,
            schedule=Schedule(
                steps=config.steps,
                measured_steps=(*config.probe.steps, *config.evaluation.steps, *continued),
                checkpoint_every=config.checkpoint_every,
                batch_size=config.batch_size,
                num_examples=self._setup.workload.num_examples,
                seed=config.seed,
                repeat=repeat,
                start=start,
                watched_steps=watched_steps(config),
            ),
            updates=self._updates[plan.family],
            rate=plan.rate,
            initial=initial or fresh,
            like=fresh,
            measurements=self._measurements(plan, records),
            examples=self._setup.examples,
            records=records,
            checkpoints=Checkpoints(path / "checkpoints"),
            keep_all=config.keep_checkpoints == "all",
            preemption=self._preemption,
        )
        self._runs[plan.name, repeat] = run
        return run

    def _measurements(self, plan: RunPlan, records: RunRecords) -> tuple[Measurement, ...]:
        config, setup = self._config, self._setup
        if plan.name not in self._adaptivity:
            self._adaptivity[plan.name] = adaptivity(config, plan)

        def probed(state):
            loss, statistics, arrays = setup.probe(
                state.variables, state.optimizer, self._adaptivity[plan.name]
            )
            values = [(loss, *value) for value in statistics]
            return values, f"loss on the probe batch {loss:.4f}", arrays

        def evaluated(state):
            metrics = setup.evaluation(state.variables)
            said = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            return list(metrics.items()), f"held out: {said}", {}

        def watched(state):
            return [(setup.probe.loss(state.variables),)], "", {}

        steps, watch = tuple(config.evaluation.steps), watched_steps(config)
        return (
            Measurement("loss", watch, watched, ProbeLossRow, records.probe_losses),
            Measurement("evaluation", steps, evaluated, EvaluationRow, records.evaluation),
            Measurement("probe", tuple(config.probe.steps), probed, GeometryRow, records.geometry),
        )


def shared(plans: list[RunPlan], config: Config) -> list[tuple[RunPlan, int]]:
    """The runs of this process's share, `config.share` = `"i/n"`: repeats and first runs dealt out.

    A run that goes on from another is in the same share as that one.
    """
    number, of = map(int, config.share.split("/"))
    first = [(p.name, repeat) for p in plans if not p.start_run for repeat in range(config.repeats)]
    dealt = {key: k % of for k, key in enumerate(first)}
    mine = []
    for plan in plans:
        for repeat in range(config.repeats):
            share = dealt.setdefault((plan.name, repeat), dealt.get((plan.start_run, repeat), 0))
            if share == number - 1:
                mine.append((plan, repeat))
    return mine
