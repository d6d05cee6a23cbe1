"""Probing alone: other layers, coordinates or batches on the checkpoints that a folder holds."""

from rich.console import Console

from hgeo.config import Config
from hgeo.experiment.runner import Team
from hgeo.experiment.same_loss import targets
from hgeo.experiment.setup import set_up
from hgeo.experiment.work_folder import WorkFolder
from hgeo.report import write_report
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress
from hgeo.workloads.registry import make_workload


def probe_checkpoints(
    config: Config, folder: WorkFolder, console: Console, command: str = ""
) -> bool:
    """Probes the checkpoints of a finished folder as `config.probe` says, and reports.

    Nothing is trained. Records and report go to `probes/NAME` in the folder, with NAME from
    `config.probe_only`.

    Returns:
      Whether every run, and every Hessian entry, stayed finite.

    Raises:
      InputError: the data differ, or the probes of that name were taken otherwise.
    """
    workload = make_workload(config)
    setup = set_up(config, workload)
    apart = WorkFolder(folder.path / "probes" / config.probe_only)
    apart.check(config, apart=True)
    apart.take(config, workload, setup.dtypes)
    team = Team(config, folder, setup, Preemption())
    try:
        with Progress(console) as progress:
            for note in (*workload.notes, *setup.probe.notes):
                progress.say(f"note: {note}")
            team.measure_saved(apart, progress)
    finally:
        team.close()
    records = apart.records(config)
    write_report(config, records, apart.path, console, targets(config, folder), command)
    return all(run.is_finite for run in records)
