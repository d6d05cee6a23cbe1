"""An experiment: all runs of a config, from the same initial weights, then their report."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh
from rich.console import Console

from hgeo.checkpoints import Checkpoints
from hgeo.config import Config
from hgeo.evaluation import Evaluation
from hgeo.geometry import GeometryProbe
from hgeo.learning_rates import make_factor
from hgeo.optimizers import make_optimizer
from hgeo.parallel import make_mesh, place
from hgeo.progress import Progress
from hgeo.records import EvaluationRow, GeometryRow, RunRecords
from hgeo.report import write_report
from hgeo.schedule import Schedule
from hgeo.settings import check_against_data, check_config
from hgeo.train import Measurement, Run, TrainState, make_update
from hgeo.workfolder import WorkFolder
from hgeo.workloads.registry import make_workload
from hgeo.workloads.workload import Workload

PyTree = Any


def run_experiment(config: Config, workdir: epath.PathLike, console: Console) -> bool:
    """Trains and measures whatever of a config is missing in a work folder, then reports on it all.

    Args:
      config: a locked config, such as those in `configs/`.
      workdir: the work folder; what it already holds is not done again.
      console: where progress and the table go.

    Returns:
      Whether every run kept a finite loss.

    Raises:
      InputError: the config, the data or the folder can't be used; nothing was trained then.
    """
    check_config(config)
    folder = WorkFolder(workdir)
    folder.check(config)
    if not all(_is_finished(config, records) for records in folder.records(config)):
        _train(config, folder, console)
    records = folder.records(config)
    write_report(config, records, folder.path, console)
    return all(run.diverged_at is None for run in records)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all runs of a config share.

    Attributes:
      workload: model, data and loss.
      mesh: the devices.
      variables: the common initial ones.
      probe: measures the curvature.
      examples: the training examples, on the devices.
      dropout_key: of all runs.
    """

    workload: Workload
    mesh: Mesh
    variables: PyTree
    probe: GeometryProbe
    examples: PyTree
    dropout_key: jax.Array


def set_up(config: Config, workload: Workload) -> Setup:
    """Makes the initial variables from the seed, and puts all on the devices."""
    mesh = make_mesh()
    check_against_data(config, workload, mesh)
    init_key, coordinates_key, dropout_key = jax.random.split(jax.random.key(config.seed), 3)
    variables = jax.tree.map(jnp.asarray, workload.init(init_key))
    return Setup(
        workload=workload,
        mesh=mesh,
        variables=variables,
        probe=GeometryProbe(config, workload, variables, coordinates_key, mesh),
        examples=place(workload.examples, mesh),
        dropout_key=dropout_key,
    )


def update_and_initial(
    config: Config, setup: Setup, name: str
) -> tuple[Callable[..., tuple[TrainState, jax.Array]], Callable[[], TrainState]]:
    """An optimizer's compiled update, and what makes its state before the first one."""
    factor = make_factor(config.learning_rate_schedule, config.steps)
    optimizer = make_optimizer(name, config[name], factor, config.max_gradient_norm)

    def initial():
        copy = jax.tree.map(jnp.copy, setup.variables)
        state = TrainState(copy, optimizer.init(copy["params"]), jnp.zeros((), jnp.int32))
        return place(state, setup.mesh)

    return make_update(setup.workload, optimizer, setup.dropout_key, setup.mesh), initial


def _train(config: Config, folder: WorkFolder, console: Console) -> None:
    workload = make_workload(config)
    setup = set_up(config, workload)
    data = {"sha256": workload.sha256, "num_examples": workload.num_examples}
    folder.check_data(data)
    folder.write_config(config, data)
    evaluation = Evaluation(config, workload, setup.mesh)
    runs = []
    for name in config.optimizers:
        update, initial = update_and_initial(config, setup, name)
        for repeat in range(config.repeats):
            path = folder.run_folder(name, repeat)
            records = RunRecords(path)
            runs.append(
                Run(
                    name=name,
                    schedule=_schedule(config, workload, repeat),
                    update=update,
                    initial=initial,
                    measurements=_measurements(config, setup.probe, evaluation, records),
                    examples=setup.examples,
                    records=records,
                    checkpoints=Checkpoints(path / "checkpoints"),
                )
            )
    try:
        with Progress(console) as progress:
            for note in (*workload.notes, *setup.probe.notes):
                progress.say(f"note: {note}")
            for k, run in enumerate(runs):
                # Counted anew for each run, since one that diverged leaves steps undone.
                progress.expect(sum((later.missing() for later in runs[k:]), Counter()))
                run.go_on(progress)
            if setup.probe.mode is not None:
                progress.say(f"probe mode: {setup.probe.mode}")
    finally:
        for run in runs:
            run.checkpoints.close()


def _measurements(
    config: Config, probe: GeometryProbe, evaluation: Evaluation, records: RunRecords
) -> tuple[Measurement, ...]:
    def probed(variables):
        loss, statistics = probe(variables)
        return [(loss, *values) for values in statistics], f"loss on the probe batch {loss:.4f}"

    def evaluated(variables):
        metrics = evaluation(variables)
        said = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        return list(metrics.items()), f"held out: {said}"

    return (
        Measurement(
            "evaluation",
            tuple(config.evaluation.steps),
            evaluated,
            EvaluationRow,
            records.evaluation,
        ),
        Measurement("probe", tuple(config.probe.steps), probed, GeometryRow, records.geometry),
    )


def _schedule(config: Config, workload: Workload, repeat: int) -> Schedule:
    return Schedule(
        steps=config.steps,
        measured_steps=(*config.probe.steps, *config.evaluation.steps),
        checkpoint_every=config.checkpoint_every,
        batch_size=config.batch_size,
        num_examples=workload.num_examples,
        seed=config.seed,
        repeat=repeat,
    )


def _is_finished(config: Config, records: RunRecords) -> bool:
    """Whether a run has all its rows and its last checkpoint, seen without the data."""
    end = records.diverged_at
    measured = all(
        step in rows
        for steps, rows in (
            (config.probe.steps, records.geometry),
            (config.evaluation.steps, records.evaluation),
        )
        for step in steps
        if end is None or step <= end
    )
    if end is not None:
        return measured
    trained = len(records.losses) == config.steps
    return measured and trained and (records.folder / "checkpoints" / str(config.steps)).exists()
