"""An experiment: all runs of a config, from the same initial weights, then their report."""

from collections.abc import Callable, Iterable

import jax
from etils import epath
from rich.console import Console

from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.experiment.accelerators import unused_accelerator
from hgeo.experiment.left_of_run import is_probed, left_of_run
from hgeo.experiment.order_of_runs import PlannedRun, runs_of_share
from hgeo.experiment.resolve import resolve
from hgeo.experiment.resolved import Resolved
from hgeo.experiment.runner import Runner
from hgeo.experiment.same_loss import targets
from hgeo.experiment.shared_resources import build_resources
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import RunRecords
from hgeo.report import write_report
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress


def run_experiment(
    config: Config, workdir: epath.PathLike, console: Console, command: str = ""
) -> bool:
    """Trains and measures what a work folder lacks of a config, then writes the report.

    With a share of the work it does the share's runs, and writes the report if all other shares are
    done. With `config.probe_only` nothing is trained: the checkpoints of the share's runs are
    probed as `config.probe` says, and records and report go to `probes/NAME` in the folder.

    Args:
      config: a locked config, such as those in `configs/`.
      workdir: the work folder; what it already holds is not repeated.
      console: where progress and the table go.
      command: the command line, for the report; empty where there is none.

    Returns:
      Whether every run, and every Hessian entry, stayed finite.

    Raises:
      InputError: the config, the data or the folder can't be used; nothing was trained.
      Preempted: after SIGTERM or SIGINT, once the state is saved.
    """
    folder = WorkFolder(workdir)
    return run_resolved(resolve(config, folder), folder, console, command)


def run_resolved(
    resolved: Resolved, folder: WorkFolder, console: Console, command: str = ""
) -> bool:
    """`run_experiment` for an experiment that was resolved with the folder."""
    target = folder
    if resolved.probe_only:
        if folder.num_examples() is None:
            raise InputError(
                f"probe_only={resolved.probe_only} probes saved checkpoints, but {folder.path} has "
                "no runs: train them first"
            )
        target = folder.standalone_probes(resolved.probe_only)
        target.check(resolved.settings)
        folder.check_data(resolved.read_workload())
        _run(resolved, folder, target, console, lambda runner: runner.probe_saved(target))
    elif _unfinished(resolved, folder, runs_of_share(resolved)):
        _run(resolved, folder, target, console, Runner.train)

    records = target.records(resolved.optimizers, resolved.repeats)
    for line in (line for run in records for line in run.repairs):
        console.print(line, highlight=False, soft_wrap=True)
    if resolved.probe_only:
        left = _not_probed(resolved, folder, target)
    else:
        left = _unfinished(resolved, folder, resolved.runs)
    if left:
        who = "these runs" if resolved.share.count == 1 else "other shares"
        console.print(f"no report yet; {who} have not finished: {', '.join(left)}")
    elif jax.process_index() == 0:
        losses = targets(resolved, folder)
        write_report(resolved.summary, records, target.path, console, losses, command)
    return all(run.is_finite for run in records)


def unfinished(
    resolved: Resolved, folder: WorkFolder, planned: Iterable[PlannedRun]
) -> list[PlannedRun]:
    """Those of the planned runs that have something left to do, known without the data."""
    losses, found = targets(resolved, folder), []
    for plan, repeat in planned:
        records = RunRecords(folder.run_folder(plan.name, repeat))
        if not left_of_run(resolved, plan, records, losses).is_nothing:
            found.append((plan, repeat))
    return found


def _unfinished(resolved: Resolved, folder: WorkFolder, planned: Iterable[PlannedRun]) -> list[str]:
    """The unfinished runs by name and repeat."""
    return [f"{plan.name} {repeat}" for plan, repeat in unfinished(resolved, folder, planned)]


def _not_probed(resolved: Resolved, folder: WorkFolder, target: WorkFolder) -> list[str]:
    """The runs of other shares whose checkpoints have not been probed, by name and repeat.

    This process's own have been: what they still lack are damaged checkpoints.
    """
    own = {(plan.name, repeat) for plan, repeat in runs_of_share(resolved)}
    others = [(p.name, repeat) for p, repeat in resolved.runs if (p.name, repeat) not in own]
    return [
        f"{name} {repeat}"
        for name, repeat in others
        if not is_probed(
            resolved,
            RunRecords(folder.run_folder(name, repeat)),
            RunRecords(target.run_folder(name, repeat)),
        )
    ]


def _run(
    resolved: Resolved,
    folder: WorkFolder,
    target: WorkFolder,
    console: Console,
    act: Callable[[Runner], None],
) -> None:
    """Builds what the runs share and calls `act` with a runner.

    Args:
      resolved: the experiment.
      folder: where its runs are kept.
      target: the folder that takes the records.
      console: where progress goes.
      act: what the runner does.
    """
    resources = build_resources(resolved)
    target.take(resolved.settings, resources.workload, resources.dtypes)
    with Preemption() as preemption, Progress(console) as progress:
        notes = (unused_accelerator(), *resources.workload.notes, *resources.probe.notes)
        for note in filter(None, notes):
            progress.say(f"note: {note}")
        runner = Runner(resources, folder, preemption, progress)
        try:
            act(runner)
        finally:
            runner.close()
        if resources.probe.mode is not None:
            progress.say(f"probe mode: {resources.probe.mode}")
