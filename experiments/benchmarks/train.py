"""Updates a second of each workload under Adam, against its PyTorch original.

All three sides (hgeo, PyTorch eager, PyTorch by `torch.compile`) begin at the same weights, see the
same batches, and must lose the same before they are timed. Beside them stands what the matrix
products and convolutions of an update take by themselves, each shape timed alone, in turns with the
update: none on this backend is faster than that. Then the train loop itself, with its records,
against its updates alone.
"""

import argparse
import csv
import importlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.benchmarks import limit, machine
from experiments.benchmarks.timing import measure
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolve import resolve
from hgeo.experiment.runner import Runner
from hgeo.experiment.shared_resources import (
    SharedResources,
    build_resources,
    initial_state,
    make_updates,
)
from hgeo.experiment.work_folder import WorkFolder
from hgeo.training.preemption import Preemption
from hgeo.training.progress import Progress
from hgeo.training.timeline import MAX_BLOCK

Update = Callable[[], Any]  # one update on the next batch, gives its loss

WORKLOADS = ("translation", "lm", "bert", "resnet")
# Of the losses of the first updates: in float32, and where products are TF32's.
TOLERANCE, TF32_TOLERANCE = 1e-3, 1e-2


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark train", description=__doc__)
    parser.add_argument("--data_dir", help="folder of the workloads' data")
    parser.add_argument("--workloads", nargs="+", default=WORKLOADS)
    parser.add_argument("--updates", type=int, default=4, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no_compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--loop", default="lm", help="workload whose train loop is timed; empty: none"
    )
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    scale = "cpu"
    if options.smoke:
        options.workloads, options.loop, scale = ["quickstart"], "quickstart", "smoke"
        options.updates, options.rounds, options.no_compile = 2, 1, True

    print(machine.describe())
    print(
        "ms of an update; Adam, float32, products at JAX's default precision; medians of "
        f"{options.rounds} interleaved rounds of {options.updates}; {machine.load()} at the start"
    )
    print(
        "workload             hgeo    eager  compiled  products  best PyTorch / hgeo  / products"
        "  products / hgeo"
    )
    rows = [of_workload(name, scale, options) for name in options.workloads]
    if options.loop:
        print(loop_line(options.loop, scale, options))
    print(f"{machine.load()} at the end")
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "machine"])
            writer.writeheader()
            writer.writerows(row | {"machine": machine.describe()} for row in rows)


def of_workload(name: str, scale: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints one workload."""
    from experiments.benchmarks.pytorch.training import TorchTraining

    config = config_of(name, scale, options.data_dir)
    resources, plan = _build(config)
    batches = _batches(resources, options)
    sides: dict[str, Update] = {"hgeo": hgeo_update(resources, plan, itertools.cycle(batches))}
    for side, compiled in (("eager", False), ("compiled", True)):
        if not (compiled and options.no_compile):
            training = TorchTraining(config, resources, plan)
            sides[side] = training.update(iter(batches), compiled=compiled)

    first = {side: [float(update()) for _ in range(3)] for side, update in sides.items()}
    tolerance = TF32_TOLERANCE if jax.default_backend() == "gpu" else TOLERANCE
    for side, losses in first.items():
        if not np.allclose(losses, first["hgeo"], rtol=tolerance):
            raise SystemExit(f"{name}: the losses differ: {first}, first in {side}")

    def several(update):
        return lambda: float([update() for _ in range(options.updates)][-1])

    timings = measure({side: several(u) for side, u in sides.items()}, options.rounds)
    ms = {side: 1e3 * timing.median / options.updates for side, timing in timings.items()}
    counts = hgeo_products(resources, plan, batches[0])
    once = lambda: float(sides["hgeo"]())
    found = limit.least(counts, once, options.rounds, precision=None)
    least, share = 1e3 * found.seconds, found.seconds / found.call
    best = min(value for side, value in ms.items() if side != "hgeo")
    ratios = best / ms["hgeo"], best / least
    compiled = f"{ms['compiled']:9.1f}" if "compiled" in ms else "        -"
    print(
        f"{name:16} {ms['hgeo']:8.1f} {ms['eager']:8.1f} {compiled} {least:9.1f} "
        f"{ratios[0]:20.2f} {ratios[1]:11.2f} {share:16.2f}",
        flush=True,
    )
    row = {f"{side}_ms": ms.get(side, "") for side in ("hgeo", "eager", "compiled")}
    own = {"products_ms": least, "ratio": ratios[0], "ratio_to_products": ratios[1], "share": share}
    return {"workload": name, **row, **own}


def config_of(name: str, scale: str, data_dir: str | None) -> Any:
    """A workload's config with Adam alone."""
    config: Any = importlib.import_module(f"configs.{name}").get_config(scale)
    config.optimizers, config.compare = ("adam",), ()
    if data_dir:
        config.data_dir = data_dir
    return config


def hgeo_update(resources: SharedResources, plan: RunPlan, batches: Any) -> Update:
    """The update that the train loop does."""
    update, rate = make_updates(resources, plan).alone, np.float32(plan.rate)
    state = initial_state(resources, plan)

    def call():
        nonlocal state
        state, info = update(state, resources.examples, next(batches), rate)
        return info.loss

    return call


def hgeo_products(resources: SharedResources, plan: RunPlan, indices: np.ndarray) -> Any:
    """The products and convolutions of an update, and how often it makes each."""
    update = make_updates(resources, plan).alone
    state = initial_state(resources, plan)
    return limit.products(update, state, resources.examples, indices, np.float32(plan.rate))


def loop_line(name: str, scale: str, options: argparse.Namespace) -> str:
    """The time that the train loop takes beside its updates."""
    config = config_of(name, scale, options.data_dir)
    config.steps, config.checkpoint_every = 4 * MAX_BLOCK, 0
    config.probe.steps, config.evaluation.steps = (), ()
    resources, plan = _build(config)
    with tempfile.TemporaryDirectory() as workdir:
        folder, progress = WorkFolder(workdir), Blocks(Console(quiet=True))
        folder.take(resources.resolved.settings, resources.workload, resources.dtypes)
        with Preemption() as preemption:
            runner = Runner(resources, folder, preemption, progress)
            runner.train()
            runner.close()
    batches = _batches(resources, options, number=2 * MAX_BLOCK)
    update = hgeo_update(resources, plan, iter(batches))
    float(update())
    several = lambda: [update() for _ in range(MAX_BLOCK // 2)][-1].block_until_ready()
    alone = measure({0: several}, rounds=3)[0].median / (MAX_BLOCK // 2)
    loop = float(np.median(progress.seconds[1:]))
    return (
        f"{name}: an update in the train loop {1e3 * loop:.2f} ms, alone {1e3 * alone:.2f} ms: "
        f"{100 * (loop / alone - 1):.1f}% more"
    )


class Blocks(Progress):
    """Keeps the seconds of an update in each block of updates."""

    def __init__(self, console: Console):
        """Starts without a block."""
        super().__init__(console)
        self.seconds: list[float] = []

    def done(self, kind: str, number: int, seconds: float, doing: str) -> None:
        """As `Progress.done`; keeps the seconds of an update."""
        super().done(kind, number, seconds, doing)
        if kind == "step":
            self.seconds.append(seconds / number)


def _build(config: Any) -> tuple[SharedResources, RunPlan]:
    resources = build_resources(resolve(config))
    (plan,) = resources.resolved.plans
    return resources, plan


def _batches(resources: SharedResources, options: argparse.Namespace, number: int = 0) -> list[Any]:
    """Enough batches for a side, as rows of the examples."""
    number = number or 3 + options.updates * options.rounds
    rows = np.random.default_rng(0).integers(
        resources.workload.num_examples, size=(number, resources.resolved.batch_size)
    )
    return list(rows.astype(np.int32))
