"""Runs that are killed and damaged again and again, and one long run.

    python -m experiments.soak --kills=200 --workdir=D
    python -m experiments.soak --steps=10000 --probes=100 --workdir=D

The first trains the quickstart's smoke model and kills it by `kill -9` at random moments until it
is done. It damages a checkpoint or a record between some of the starts, and repeats this in new
folders up to the given number of kills. Every finished folder must hold the records and the last
checkpoint's arrays of an undisturbed run, bit for bit. The second measures the process's memory and
the number of compiled programs along one run. Both write their results to D/soak.json, and exit
with 1 if a finished folder differs.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import time
from typing import Any

import jax
from rich.console import Console

from configs import quickstart
from experiments.soak.long_run import long_run
from hgeo.experiment.resolve import resolve
from hgeo.experiment.run_experiment import run_experiment
from hgeo.experiment.shared_resources import build_resources, initial_state
from hgeo.training.checkpoints import Checkpoints, digest

STEPS = 20
FILES = ("losses.csv", "geometry.csv", "evaluation.csv", "iterates.csv")

# A new process takes seconds to start. A fork of this process, which has imported all but not used
# JAX yet, is as good.
_fork = multiprocessing.get_context("fork")


def soak_config():
    """A run with an event at every step: training, checkpoints, probes and records in turn."""
    config: Any = quickstart.get_config("smoke")
    config.steps = STEPS
    config.checkpoint_every = 1
    config.keep_checkpoints = "measured"
    config.probe.steps = (0, STEPS // 2, STEPS)
    config.probe.layers = (4,)
    config.probe.num_coordinates = 2
    config.lock()
    return config


def soak(workdir: pathlib.Path, kills: int, seed: int) -> dict[str, Any]:
    """Kills and damages runs up to a number of kills; returns counts and differences."""
    draw = random.Random(seed)
    # The undisturbed run fills it, and the others only read it.
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _finish(_start(workdir / "calm"))
    expected = _result(workdir / "calm")
    began = time.perf_counter()
    _finish(_start(workdir / "again"))
    latest = time.perf_counter() - began
    again = _result(workdir / "again")
    differences = [f"undisturbed twice: {k}" for k in expected if again[k] != expected[k]]
    done = {"kills": 0, "damages": 0, "runs": 0, "repairs_said": 0}
    while done["kills"] < kills:
        folder = workdir / f"run_{done['runs']}"
        while done["kills"] < kills:
            process = _start(folder)
            if not _killed(process, folder, draw.uniform(0.0, latest)):
                break
            done["kills"] += 1
            if draw.random() < 0.3:
                done["damages"] += _damage(folder, draw)
        _finish(_start(folder))
        done["runs"] += 1
        done["repairs_said"] += sum(
            line.count("is damaged") + line.count("ended in half")
            for line in (folder / "said.txt").read_text().splitlines()
        )
        result = _result(folder)
        differences += [f"{folder}: {name}" for name in expected if result[name] != expected[name]]
        left = (folder / "runs").rglob("*.partial")
        differences += [f"{folder}: {path} is left over" for path in left]
        print(f"{done}, {len(differences)} differences", flush=True)
    return done | {"differences": differences}


def _start(folder: pathlib.Path) -> Any:
    process = _fork.Process(target=_run, args=(folder,))
    process.start()
    return process


def _run(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "said.txt").open("a") as file, (folder / "errors.txt").open("a") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
        run_experiment(soak_config(), str(folder), Console(file=file, width=200))


def _finish(process) -> None:
    process.join()
    if process.exitcode:
        raise RuntimeError(f"an undisturbed run failed with exit code {process.exitcode}")


def _killed(process, folder: pathlib.Path, delay: float) -> bool:
    """Kills a run `delay` seconds after it took its lock; false if it had finished."""
    lock = folder / "runs" / "sgdm" / "repeat_0" / ".lock"
    while process.is_alive() and not (lock.exists() and f" {process.pid} " in lock.read_text()):
        time.sleep(0.005)
    process.join(delay)
    if process.exitcode == 0:
        return False
    if process.exitcode is not None:
        raise RuntimeError(f"a run failed before it was killed, with exit code {process.exitcode}")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return True


def _damage(folder: pathlib.Path, draw: random.Random) -> int:
    """Damages an unfinished run's newest checkpoint or cuts a record's end off; 1 if possible.

    Raises:
      RuntimeError: the checkpoint has no file of arrays where Orbax puts them.
    """
    run = draw.choice(sorted((folder / "runs").glob("*/repeat_0")))
    steps = sorted((int(p.name), p) for p in (run / "checkpoints").glob("*") if p.name.isdigit())
    going = steps and steps[-1][0] < STEPS  # a finished run reads no checkpoint
    losses = run / "losses.csv"
    if draw.random() < 0.5 and going and len(steps) > 1:
        files = [path for path in steps[-1][1].rglob("d/*") if path.stat().st_size]
        if not files:
            raise RuntimeError(f"no arrays to damage in {steps[-1][1]}")
        for path in files:
            content = bytearray(path.read_bytes())
            for place in (0.2, 0.5, 0.8):
                content[int(place * len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(content)
        return 1
    if losses.exists() and losses.stat().st_size > 200:
        losses.write_bytes(losses.read_bytes()[: -draw.randrange(1, 30)])
        return 1
    return 0


def _result(folder: pathlib.Path) -> dict[str, Any]:
    """The records' bytes and the last checkpoints' digests of a finished folder."""
    receive, send = _fork.Pipe(duplex=False)
    process = _fork.Process(target=_digests, args=(folder, send))
    process.start()
    send.close()  # so that `recv` raises if the process ends without an answer
    digests = receive.recv()
    process.join()
    return {name: (folder / name).read_bytes() for name in FILES} | digests


def _digests(folder: pathlib.Path, send) -> None:
    """Sends the digests of the last checkpoints' arrays as they can be restored."""
    resources, result = build_resources(resolve(soak_config())), {}
    for plan in resources.resolved.plans:
        own = Checkpoints(folder / "runs" / plan.name / "repeat_0" / "checkpoints")
        result[plan.name] = digest(own.restore(STEPS, initial_state(resources, plan)))
        result[f"{plan.name}: steps"] = own.steps()
        own.close()
    send.send(result)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.kills < 1 and options.steps < 1:
        parser.error("give --kills or --steps, at least 1")
    options.workdir.mkdir(parents=True, exist_ok=True)
    began, result = time.perf_counter(), {}
    if options.kills:
        result |= soak(options.workdir.absolute(), options.kills, options.seed)
    if options.steps:
        result |= long_run(options.workdir / "long", options.steps, options.probes)
    result["seconds"] = round(time.perf_counter() - began)
    text = json.dumps(result, indent=2)
    (options.workdir / "soak.json").write_text(text + "\n")
    print(text)
    return 1 if result.get("differences") else 0


if __name__ == "__main__":
    sys.exit(main())
