"""The linear networks' runs of a config: trains those that are missing, then reads all."""

import dataclasses
import io
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from etils import epath
from rich.console import Console

from configs import linear
from experiments.paper.linear.training import Setup, train_seeds
from experiments.paper.linear.updates import Adam, Rule, SgdMomentum
from hgeo.config import Config
from hgeo.errors import InputError

OPTIMIZERS = ("sgdm", "adam")
WORKERS = 2  # a run's loop keeps one core busy


@dataclasses.dataclass(frozen=True)
class Run:
    """Seeds of one setup, under a name that is also their file's."""

    name: str
    setup: Setup
    num_seeds: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run's arrays (see `train_seeds`), and where each seed's period from T1 to T2 lies.

    Attributes:
      arrays: as recorded.
      first, last: T1 and T2 by seed, in steps.
      status: by seed `ok`, `diverged` (a loss that isn't finite, or ends above the initial one) or
        `unfinished` (the loss ends above T2's); T1 and T2 mean something for `ok` alone.
    """

    arrays: dict[str, np.ndarray]
    first: np.ndarray
    last: np.ndarray
    status: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        """Which seeds are `ok`."""
        return self.status == "ok"

    def over_period(self, name: str, reduce) -> np.ndarray:
        """A recorded quantity reduced over the records from T1 to T2, one row an `ok` seed."""
        step = self.arrays["step"]
        return np.array(
            [
                reduce(self.arrays[name][k][(step >= self.first[k]) & (step <= self.last[k])], 0)
                for k in np.flatnonzero(self.ok)
            ]
        )


def load_config(scale: str) -> Config:
    """`configs/linear.py` at a scale; an unknown one is an InputError."""
    try:
        return linear.get_config(scale)
    except ValueError as error:
        raise InputError(str(error)) from error


def power_law(config: Config, width: int) -> float:
    """scale · width^power."""
    return config.scale * width**config.power


def rule(config: Config, optimizer: str, width: int, factor: float = 1.0) -> Rule:
    """The update rule of a config at a width, its learning rate times a factor."""
    own = config[optimizer]
    learning_rate = factor * power_law(own.learning_rate, width)
    if optimizer == "sgdm":
        return SgdMomentum(learning_rate, own.momentum)
    return Adam(learning_rate, own.b1, own.b2, own.xi)


def setup(config: Config, optimizer: str, width: int, measure: str, **changes) -> Setup:
    """The two-layer setup of a config at a width, with changes."""
    own = config[optimizer]
    usual = Setup(
        width=width,
        depth=2,
        rule=rule(config, optimizer, width),
        initial_std=power_law(config.initial_std, width),
        steps=round(power_law(own.steps, width)),
        record_every=own.record_every,
        measure=measure,
        target_low=config.target.low,
        target_high=config.target.high,
        noise_variance=config.noise_variance,
    )
    return dataclasses.replace(usual, **changes)


def main_runs(config: Config) -> dict[tuple[str, int], Run]:
    """The runs of theorem 1 and corollary 1, by optimizer and width."""
    if len(config.dims) != len(config.num_seeds):
        raise InputError(
            f"num_seeds must have a number for each of dims {config.dims}, not {config.num_seeds}"
        )
    return {
        (optimizer, width): Run(
            f"{optimizer}_d{width}", setup(config, optimizer, width, "mechanism"), num_seeds
        )
        for width, num_seeds in zip(config.dims, config.num_seeds, strict=True)
        for optimizer in OPTIMIZERS
    }


def trained(
    config: Config, runs: Sequence[Run], folder: epath.Path, console: Console
) -> list[Trained]:
    """Reads every run, after training those that the folder lacks, the longest first.

    Raises:
      InputError: the folder holds a run of that name with another setup.
    """
    folder = folder / "runs" / "linear"
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        _check(config, run, folder)
    missing = [run for run in runs if not (folder / f"{run.name}.npz").exists()]
    missing.sort(key=lambda run: -run.num_seeds * run.setup.steps * run.setup.width**2)

    def train(run: Run) -> None:
        start = time.monotonic()
        arrays: dict[str, Any] = train_seeds(run.setup, config.seed, run.num_seeds)
        content = io.BytesIO()
        np.savez(content, description=_description(config, run), **arrays)
        partial = folder / f".{run.name}.partial"
        partial.write_bytes(content.getvalue())
        partial.replace(folder / f"{run.name}.npz")
        finished.append(run)
        console.print(
            f"trained {run.name}: {run.num_seeds} seeds, {run.setup.steps} steps, "
            f"{time.monotonic() - start:.1f} s ({len(finished)} of {len(missing)})",
            highlight=False,
        )

    finished: list[Run] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for future in [pool.submit(train, run) for run in missing]:
            future.result()
    return [_read(config, folder / f"{run.name}.npz") for run in runs]


def _description(config: Config, run: Run) -> str:
    setup = dataclasses.asdict(run.setup) | {"kind": type(run.setup.rule).__name__}
    return json.dumps({"seed": config.seed, "num_seeds": run.num_seeds, **setup}, sort_keys=True)


def _check(config: Config, run: Run, folder: epath.Path) -> None:
    path = folder / f"{run.name}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            there, now = str(file["description"]), _description(config, run)
        if there != now:
            raise InputError(
                f"{path} holds another run; take another work folder.\n  there: {there}\n"
                f"  now:   {now}"
            )


def _read(config: Config, path: epath.Path) -> Trained:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "description"}
    loss = arrays["loss"] / arrays["loss"][:, :1]
    low, high = loss <= config.first_ratio, loss >= config.last_ratio
    first = low.argmax(axis=1)
    last = loss.shape[1] - 1 - high[:, ::-1].argmax(axis=1)
    bad = ~np.isfinite(loss).all(axis=1) | (loss[:, -1] > 1)
    unfinished = ~low.any(axis=1) | high[:, -1]
    status = np.where(bad, "diverged", np.where(unfinished, "unfinished", "ok"))
    return Trained(arrays, first, last, status)
