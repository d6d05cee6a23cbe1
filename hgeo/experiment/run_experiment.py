"""An experiment: all runs of a config, from the same initial weights, then their report."""

import jax
from etils import epath
from rich.console import Console

from hgeo.config import Config
from hgeo.experiment.accelerators import unused_accelerator
from hgeo.experiment.plan import RunPlan, make_plans
from hgeo.experiment.probing import probe_checkpoints
from hgeo.experiment.runner import Team, shared
from hgeo.experiment.same_loss import targets, watched_steps
from hgeo.experiment.setup import set_up
from hgeo.experiment.step_spec import with_steps
from hgeo.experiment.tuning import with_tuned_rates
from hgeo.experiment.validation import check_config
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import RunRecords
from hgeo.report import write_report
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress
from hgeo.workloads.registry import make_workload


def run_experiment(
    config: Config, workdir: epath.PathLike, console: Console, command: str = ""
) -> bool:
    """Trains and measures whatever of a config is missing in a work folder, then reports on it all.

    With a share of the work it does its own runs, and reports where all of the others are done.

    Args:
      config: a locked config, such as those in `configs/`.
      workdir: the work folder; what it already holds is not done again.
      console: where progress and the table go.
      command: that does all this again, for the report; empty where there is none.

    Returns:
      Whether every run, and every Hessian entry, stayed finite.

    Raises:
      InputError: the config, the data or the folder can't be used; nothing was trained then.
      Preempted: SIGTERM came, and the state has been saved.
    """
    config = with_tuned_rates(config)
    folder = WorkFolder(workdir)
    config = with_steps(config, folder.num_examples())
    check_config(config)
    folder.check(config)
    if config.probe_only:
        return probe_checkpoints(config, folder, console, command)
    plans = make_plans(config)
    if not all(_is_finished(config, folder, *run) for run in shared(plans, config)):
        config = _train(config, folder, console)
    records = folder.records(config)
    for line in (line for run in records for line in run.repairs):
        console.print(line, highlight=False, soft_wrap=True)
    unfinished = [
        f"{plan.name} {repeat}"
        for plan in plans
        for repeat in range(config.repeats)
        if not _is_finished(config, folder, plan, repeat)
    ]
    if unfinished:
        console.print(f"no report yet; other shares still have to do: {', '.join(unfinished)}")
    elif jax.process_index() == 0:
        write_report(config, records, folder.path, console, targets(config, folder), command)
    return all(run.is_finite for run in records)


def _train(config: Config, folder: WorkFolder, console: Console) -> Config:
    """Trains; returns the config with every moment as a step."""
    workload = make_workload(config)
    config = with_steps(config, workload.num_examples)
    check_config(config)
    unused = unused_accelerator()
    if unused:
        console.print(f"note: {unused}", highlight=False, markup=False, soft_wrap=True)
    setup = set_up(config, workload)
    folder.take(config, workload, setup.dtypes)
    with Preemption() as preemption, Progress(console) as progress:
        for note in (*workload.notes, *setup.probe.notes):
            progress.say(f"note: {note}")
        team = Team(config, folder, setup, preemption)
        try:
            team.go_on(progress)
        finally:
            team.close()
        if setup.probe.mode is not None:
            progress.say(f"probe mode: {setup.probe.mode}")
    return config


def _is_finished(config: Config, folder: WorkFolder, plan: RunPlan, repeat: int) -> bool:
    """Whether a run has all its rows and its last checkpoint, seen without the data."""
    records = RunRecords(folder.run_folder(plan.name, repeat))
    end, start = records.diverged_at, 0
    if records.repairs:
        return False
    if plan.start_run:
        row = records.iterates.get(("start", plan.start_target))
        if row is None or row.step < 0:
            return row is not None
        start = row.step
    looked_for = [records.iterates.get(("same_loss", loss)) for loss in targets(config, folder)]
    if None in looked_for or (config.same_loss.of and not looked_for):
        return False
    found = [row.step for row in looked_for if row is not None and row.step >= 0]
    measured = all(
        step in rows
        for steps, rows in (
            ((*config.probe.steps, *found), records.geometry),
            (config.evaluation.steps, records.evaluation),
            (watched_steps(config), records.probe_losses),
        )
        for step in steps
        # An epoch is no step yet where the folder has seen no data.
        if isinstance(step, str) or (step >= start and (end is None or step <= end))
    )
    if end is not None:
        return measured
    trained = len(records.losses) == config.steps - start
    return measured and trained and (records.folder / "checkpoints" / str(config.steps)).exists()
