"""Trains a set of runs where the work folder lacks it, and gives its records."""

import dataclasses
import functools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from etils import epath
from rich.console import Console

from experiments.paper.archive import read_archive, write_archive
from experiments.paper.run_configs import Overrides, config_hash, load_config
from experiments.paper.runs import RUN_SETS
from hgeo.errors import InputError
from hgeo.experiment.disk_use import checkpoint_bytes
from hgeo.experiment.resolve import resolve
from hgeo.experiment.resolved import Resolved
from hgeo.experiment.run_experiment import run_resolved, unfinished
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import RunRecords

# The folder below the work folder that takes the archives.
RECORDS = "records"


@dataclasses.dataclass(frozen=True)
class ReproductionContext:
    """Where and how large experiments run.

    Attributes:
      folder: the work folder of all of them.
      scale: `paper`, `gpu`, `cpu` or `smoke`.
      console: for messages.
      data_dir: the data sets' root; empty, where the environment says.
      repeats: of every run set; `None`: each set's number.
      overrides: keys and values that replace those of every run set.
      records: a folder of archives, whose runs are not trained again; `None` for none.
    """

    folder: epath.Path
    scale: str
    console: Console
    data_dir: str = ""
    repeats: int | None = None
    overrides: Overrides = ()
    records: epath.Path | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished set of runs.

    Attributes:
      name: of the set.
      config: as it ran, resolved.
      folder: of its runs.
    """

    name: str
    config: Resolved
    folder: epath.Path

    def of(self, optimizer: str) -> list[RunRecords]:
        """The records of one optimizer's repeats."""
        folder = WorkFolder(self.folder)
        repeats = range(self.config.repeats)
        return [RunRecords(folder.run_folder(optimizer, repeat)) for repeat in repeats]


def train(name: str, context: ReproductionContext) -> Trained:
    """The runs of a set, trained where they are missing.

    Training says what it does in `log.txt` of the set's folder.

    Raises:
      InputError: the data or the folder can't be used.
    """
    return _train(name, context)


@functools.cache
def _train(name: str, context: ReproductionContext) -> Trained:
    if RUN_SETS[name].probes_of:
        _train(RUN_SETS[name].probes_of, context)
    resolved, work = _prepared(name, context)
    start = time.monotonic()
    context.console.print(
        f"runs {name} ({RUN_SETS[name].shows}), {resolved.repeats} repeats: {work.path}/log.txt",
        highlight=False,
    )
    with (work.path / "log.txt").open("a") as log:
        run_resolved(resolved, work, Console(file=log, width=200))
    context.console.print(f"runs {name}: {time.monotonic() - start:.0f} s", highlight=False)
    write_archive(work.path, context.folder / RECORDS / f"{work.path.name}.zip")
    if not resolved.probe_only:
        return Trained(name, resolved, work.path)
    trained = Trained(name, resolved, work.standalone_probes(name).path)
    _check_probed(trained, work.path)
    return trained


@functools.cache
def _prepared(name: str, context: ReproductionContext) -> tuple[Resolved, WorkFolder]:
    """The resolved config of a set, and the folder of its runs."""
    config = load_config(name, context.scale, context.repeats, context.overrides)
    with config.unlocked():
        config.data_dir = context.data_dir
    trained_set = RUN_SETS[name].probes_of
    if trained_set:
        _, work = _prepared(trained_set, context)
    else:
        folder = context.folder / f"{RUN_SETS[name].config}-{config_hash(config)}"
        folder.mkdir(parents=True, exist_ok=True)
        _take_archive(folder, context)
        work = WorkFolder(folder)
    return resolve(config, work), work


def checkpoint_bytes_of(names: Iterable[str], context: ReproductionContext) -> int:
    """The disk space that the checkpoints of all unfinished runs of some sets will take.

    Raises:
      InputError: the data or the folder of a set can't be used.
    """
    needed: dict[str, int] = {}
    for name in names:
        resolved, work = _prepared(RUN_SETS[name].probes_of or name, context)
        left = unfinished(resolved, work, resolved.runs)
        if left:
            # Sets that share their runs share the checkpoints.
            variables = jax.eval_shape(resolved.read_workload().init, jax.random.key(0))
            found = checkpoint_bytes(resolved, variables, work, left)
            needed[str(work.path)] = max(found, needed.get(str(work.path), 0))
    return sum(needed.values())


def _check_probed(trained: Trained, runs: epath.Path) -> None:
    """Checks that there were checkpoints to probe.

    Raises:
      InputError: the runs are an archive's, which has none.
    """
    records = [run for name in trained.config.optimizers for run in trained.of(name)]
    lacking = [run for run in records if not run.geometry]
    if lacking:
        raise InputError(
            f"{trained.name} probes the checkpoints of {runs}, and {len(lacking)} of "
            f"{len(records)} runs have none there: train them without --records"
        )


def _take_archive(folder: epath.Path, context: ReproductionContext) -> None:
    """Puts a set's archived records where the work folder has none of its runs."""
    archive = context.records and context.records / f"{folder.name}.zip"
    if archive is None or not archive.exists() or (folder / "config.json").exists():
        return
    read_archive(archive, folder)
    context.console.print(f"records of {archive}: {folder}", highlight=False)


def forget() -> None:
    """Looks into the work folders again for sets that this process has seen finished."""
    _train.cache_clear()
    _prepared.cache_clear()


def describe(names: Sequence[str], context: ReproductionContext) -> dict[str, Any]:
    """The configs of some sets, as plain values, with the folder that each ran in."""
    found = {}
    for name in names:
        trained = train(name, context)
        found[f"{name} ({trained.folder.name})"] = trained.config.settings
    return found
