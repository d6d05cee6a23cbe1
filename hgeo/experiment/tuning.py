"""Tuning: the learning rate of a grid with the lowest final loss, and configs that use it."""

import json
import math
from pathlib import Path

import numpy as np

from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.experiment.plan import OF_THE_RUN
from hgeo.records.run_records import RunRecords


def tuning_config(config: Config, optimizer: str, rates: list[float]) -> Config:
    """The config of a grid: a run for each learning rate, in which only the loss is measured.

    Raises:
      InputError: the block is absent, there are fewer than two rates, or a rate stands twice.
    """
    if optimizer not in config:
        raise InputError(f"there is no config.{optimizer} to tune")
    if len(set(rates)) < max(2, len(rates)):
        raise InputError(f"a grid needs two or more learning rates, each once, not {rates}")
    grid = config.copy_and_resolve_references()
    with grid.unlocked():
        for rate in rates:
            block = {k: v for k, v in config[optimizer].to_dict().items() if k not in OF_THE_RUN}
            block |= {"optimizer": config[optimizer].get("optimizer", optimizer)}
            block |= {"learning_rate": rate}
            grid[run_name(optimizer, rate)] = block
        grid.optimizers = tuple(run_name(optimizer, rate) for rate in rates)
        grid.compare = ()
        grid.probe.steps = ()
        grid.probe.statistics = ("r_med",)
        grid.evaluation.steps = ()
        grid.same_loss.losses = ()
        grid.same_loss.of = ""
    grid.lock()
    return grid


def run_name(optimizer: str, rate: float) -> str:
    """The name of a grid's run."""
    return f"{optimizer}_{rate:g}".replace(".", "_").replace("-", "m")


def final_loss(records: list[RunRecords], window: range) -> float:
    """The mean training loss of a window of steps, over the repeats; NaN where one diverged.

    Raises:
      ValueError: a run that did not diverge lacks a loss of the window.
    """
    if any(run.diverged_at is not None for run in records):
        return math.nan
    lacking = [str(run.folder) for run in records if not set(window) <= run.losses.keys()]
    if lacking:
        raise ValueError(
            f"{', '.join(lacking)} must have the losses of steps {window.start} to "
            f"{window.stop - 1}, and have not"
        )
    return float(np.mean([[run.losses[step].loss for step in window] for run in records]))


def with_tuned_rates(config: Config) -> Config:
    """The config with the learning rates that its blocks' `learning_rate_from` files name.

    Raises:
      InputError: a file that is absent or isn't a tuning result of that optimizer.
    """
    tuned = config.copy_and_resolve_references()
    with tuned.unlocked():
        for name in config.optimizers:
            if name in tuned and tuned[name].get("learning_rate_from", ""):
                tuned[name].learning_rate = _read_best(tuned[name], name)
                tuned[name].learning_rate_from = ""
    tuned.lock()
    return tuned


def _read_best(block: Config, name: str) -> float:
    path, optimizer = block.learning_rate_from, block.get("optimizer", name)
    try:
        result = json.loads(Path(path).read_text())
        if result["optimizer"] != optimizer:
            raise InputError(
                f"config.{name}.learning_rate_from={path!r} is the tuning of "
                f"{result['optimizer']!r}, not of {optimizer!r}"
            )
        return float(result["best"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"config.{name}.learning_rate_from={path!r} is not a tuning result: {error!r}"
        ) from error
