"""Helpers of the tests that run whole experiments."""

import csv
import importlib.util
import io
import pathlib

import jax
from rich.console import Console

from hgeo.experiment.run_experiment import run_experiment
from hgeo.report import ExperimentSummary

ROOT = pathlib.Path(__file__).parent.parent


def load_config(name, scale, **changes):
    """A locked config from `configs/`, with `probe__steps=...` for config.probe.steps."""
    path = ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"config_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(scale)
    if "cache_dir" in config:
        config.cache_dir = ""
    for key, value in changes.items():
        *groups, last = key.split("__")
        part = config
        for group in groups:
            part = part[group]
        with part.ignore_type():
            part[last] = value
    config.lock()
    return config


def run(config, workdir):
    """Runs a config in this process; returns whether all losses were finite, and what it said."""
    console = Console(file=io.StringIO(), width=200)
    # Optax's bias correction raises a Python float to an int32 power, which strict mode forbids.
    with jax.numpy_dtype_promotion("standard"):
        finite = run_experiment(config, workdir, console)
    return finite, console.file.getvalue()


def summary_of(config):
    """What a report says of an experiment, also of one that could not be run."""
    return ExperimentSummary(
        workload=config.workload,
        optimizers=tuple(config.optimizers),
        compared_pairs=tuple(config.compare),
        probe_steps=tuple(config.probe.steps),
        repeats=config.repeats,
        settings=config.to_dict(),
    )


def records(workdir):
    """The bytes of a work folder's two records."""
    folder = pathlib.Path(workdir)
    return (folder / "losses.csv").read_bytes(), (folder / "geometry.csv").read_bytes()


def rows(folder, name):
    """The rows of `NAME.csv` in a folder, as dicts of strings."""
    with (pathlib.Path(folder) / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))
