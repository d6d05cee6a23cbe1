"""Validation: what a config must satisfy before any work starts."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from hgeo.config import Config
from hgeo.devices import check_divides
from hgeo.errors import InputError
from hgeo.experiment.optimizer_transfer import check_carried
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved, Share
from hgeo.measure.context import ProbeOptions
from hgeo.measure.named import STATISTICS
from hgeo.optimizers import make_optimizer
from hgeo.records.layer_numbers import ALL
from hgeo.records.run_records import as_recorded
from hgeo.workloads.workload import Workload

KEEP = ("all", "measured")
BY = ("training", "probe")


def check_numbers(config: Config) -> None:
    """Checks the numbers of a config.

    Raises:
      InputError: naming the key, its value and what is allowed.
    """
    for key in (
        *("steps", "batch_size", "repeats", "runs_together"),
        *("probe.num_coordinates", "probe.batch_size", "evaluation.batch_size"),
    ):
        _at_least(config, key, 1)
    if config.runs_together > 1 and jax.process_count() > 1:
        raise InputError(
            f"runs_together must be 1 where there are several processes, not {config.runs_together}"
        )
    for key in ("checkpoint_every", "seed"):
        _at_least(config, key, 0)
    if not config.max_gradient_norm >= 0:  # nor NaN
        raise InputError(
            f"max_gradient_norm must be 0 (none) or more, not {config.max_gradient_norm}"
        )


def check_optimizers(plans: Sequence[RunPlan]) -> None:
    """Checks every optimizer by making it, and the states that runs carry.

    Raises:
      InputError: an optimizer is unknown, does not take an argument of its block, or has no part of
        the state that it is to carry.
    """
    for plan in plans:
        make_optimizer(plan.optimizer, plan.arguments, block=plan.name)
    check_carried(plans)


def check_choices(config: Config, steps: Mapping[str, Sequence[int | str]]) -> None:
    """Checks what else can be checked without the data.

    Args:
      config: the experiment's.
      steps: when each block's measurements are due, as far as it is known.

    Raises:
      InputError: naming the key, its value and what is allowed.
    """
    if config.keep_checkpoints not in KEEP:
        raise InputError(f"keep_checkpoints must be one of {KEEP}, not {config.keep_checkpoints!r}")
    to_share(config.share)
    if not re.fullmatch(r"[\w-]*", config.probe_only):
        raise InputError(
            "probe_only must be a name of letters, digits, _ and -, or empty, "
            f"not {config.probe_only!r}"
        )
    _check_same_loss(config)
    for pair in config.compare:
        if len(pair) != 2 or not set(pair) <= set(config.optimizers):
            raise InputError(
                f"config.compare takes pairs of config.optimizers {tuple(config.optimizers)}, "
                f"not {pair!r}"
            )
    check_steps(config.steps, steps)
    if steps["evaluation"] and not config.data.held_out_split:
        raise InputError("evaluation.steps is given, but data.held_out_split names no split")
    _check_layers(config)
    _check_statistics(config)


def check_steps(num_steps: int, steps: Mapping[str, Sequence[int | str]]) -> None:
    """Raises an InputError unless all steps that are known lie within a run."""
    for block, of_block in steps.items():
        known = [step for step in of_block if isinstance(step, int)]
        outside = [step for step in known if not 0 <= step <= num_steps]
        if outside:
            raise InputError(
                f"{block}.steps must lie in 0 to steps={num_steps}; outside: {outside}"
            )


def to_share(text: str) -> Share:
    """The share that `"i/n"` names."""
    share = re.fullmatch(r"(\d+)/(\d+)", text)
    if not share or not 1 <= int(share[1]) <= int(share[2]):
        raise InputError(f"share must be 'i/n' with i from 1 to n, not {text!r}")
    return Share(int(share[1]), int(share[2]))


def _check_same_loss(config: Config) -> None:
    for key in ("same_loss.window", "same_loss.every"):
        _at_least(config, key, 1)
    same_loss = config.same_loss
    if same_loss.by not in BY:
        raise InputError(f"same_loss.by must be one of {BY}, not {same_loss.by!r}")
    if same_loss.of and same_loss.of not in config.optimizers:
        raise InputError(
            f"same_loss.of must be one of config.optimizers {tuple(config.optimizers)} or empty, "
            f"not {same_loss.of!r}"
        )
    if same_loss.of and config.optimizers[0] != same_loss.of:
        raise InputError(
            f"same_loss.of={same_loss.of!r} must be the first of config.optimizers "
            f"{tuple(config.optimizers)}, so that its losses are known before they are used"
        )
    if same_loss.of and same_loss.losses:
        raise InputError(
            f"same_loss.losses={tuple(same_loss.losses)} and same_loss.of={same_loss.of!r}: "
            "give one of them"
        )
    if same_loss.of and to_share(config.share).count > 1 and not config.probe_only:
        raise InputError(
            f"share={config.share!r} and same_loss.of={same_loss.of!r}: a share does not know the "
            "losses of a run of another share. Train the shares without same_loss.of, and give it "
            "to one start without share, which searches and probes"
        )
    _check_losses(tuple(same_loss.losses))


def _check_losses(losses: tuple[Any, ...]) -> None:
    is_number = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
    if not all(is_number(loss) and math.isfinite(loss) for loss in losses):
        raise InputError(f"same_loss.losses must be finite numbers, not {losses}")
    if len(set(map(as_recorded, losses))) < len(losses):
        raise InputError(
            f"same_loss.losses must be numbers that differ in their first nine digits, not {losses}"
        )


def _check_layers(config: Config) -> None:
    layers = tuple(config.probe.layers)
    if not layers:
        raise InputError("probe.layers names no layer")
    is_number = lambda value: isinstance(value, int) and not isinstance(value, bool)
    if not all(map(is_number, layers)) or len(set(layers)) < len(layers):
        raise InputError(f"probe.layers must be layers' numbers, each once, not {layers}")


def _check_statistics(config: Config) -> None:
    probe = config.probe
    if not isinstance(probe.dropout, bool):
        raise InputError(f"probe.dropout must be True or False, not {probe.dropout!r}")
    unknown = [name for name in probe.statistics if name not in STATISTICS]
    if unknown or not probe.statistics:
        raise InputError(
            f"probe.statistics must name some of {tuple(STATISTICS)}, not {tuple(probe.statistics)}"
        )
    if len(set(probe.statistics)) < len(probe.statistics):
        raise InputError(f"probe.statistics must name each once, not {tuple(probe.statistics)}")
    try:
        probe_options(probe).check()
    except ValueError as error:
        raise InputError(f"probe.{error}") from error


def probe_options(probe: Config) -> ProbeOptions:
    """The options by which a config's `probe` block has its statistics measured."""
    options = {field.name: probe[field.name] for field in dataclasses.fields(ProbeOptions)}
    if str(probe.chunk_size).isdigit():  # the command line gives a number as text
        options["chunk_size"] = int(probe.chunk_size)
    return ProbeOptions(**options)


def check_against_data(resolved: Resolved, workload: Workload, mesh: Mesh) -> None:
    """Checks what depends on the data, the model and the devices.

    Raises:
      InputError: naming the key, its value and what is allowed.
    """
    numbers = {
        "batch_size": resolved.batch_size,
        "probe.batch_size": resolved.probe.batch_size,
        "evaluation.batch_size": resolved.evaluation.batch_size,
    }
    for key, number in numbers.items():
        if number > workload.num_examples and key != "evaluation.batch_size":
            raise InputError(
                f"{key}={number} is larger than the data, which has {workload.num_examples} "
                "training examples"
            )
        try:
            check_divides(key, number, mesh)
        except ValueError as error:
            raise InputError(str(error)) from error
    if resolved.probe.dropout and not workload.dropout:
        raise InputError(
            "probe.dropout=True needs a model with dropout, but model.dropout is 0 or absent"
        )
    known = {ALL, *workload.layers}
    unknown = [number for number in resolved.probe.layers if number not in known]
    if unknown:
        layers = [f"{n} {name}" for n, (name, _) in workload.layers.items()]
        listed = ", ".join([f"{ALL} all together", *layers])
        raise InputError(f"probe.layers has {unknown}, but the model's layers are {listed}")


def _at_least(config: Config, key: str, least: int) -> None:
    value = _value(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{key} must be a whole number of at least {least}, not {value!r}")


def _value(config: Config, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config
