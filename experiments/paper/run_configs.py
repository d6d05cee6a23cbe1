"""The config of a set of runs at a scale, with what the command line overrides, and its hash."""

import ast
import difflib
import hashlib
import importlib
import json
from collections.abc import Iterable
from typing import Any

from experiments.paper.run_set import LARGE_SCALES
from experiments.paper.runs import RUN_SETS
from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.experiment.work_folder import ADDED_KEYS, MUTABLE_KEYS, flat_keys

SCALES = (*LARGE_SCALES, "smoke")

# What has an option of its own, and what a run set derives.
_NOT_OVERRIDDEN = {
    "repeats": "give --repeats",
    "data_dir": "give --data_dir",
    "probe_only": "name an experiment that probes saved checkpoints",
    "probe.steps": "run sets take the paper's checkpoints; change steps",
}

Overrides = tuple[tuple[str, Any], ...]


def parse_overrides(texts: Iterable[str]) -> Overrides:
    """Keys and values of `key=value`; a value that is no Python literal is text.

    A list becomes a tuple, which can be hashed.

    Raises:
      InputError: a text without `=`, a key twice, a key that cannot be overridden, or a value that
        is a dict or a set.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError(f"--override takes key=value, not {text!r}")
        if key in _NOT_OVERRIDDEN:
            raise InputError(f"--override {text}: {_NOT_OVERRIDDEN[key]}")
        if key in found:
            raise InputError(f"--override {key} is given twice")
        try:
            found[key] = _hashable(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            found[key] = value
        except TypeError as error:
            raise InputError(
                f"--override {text}: a value must be a number, a text, a list or a tuple"
            ) from error
    return tuple(found.items())


def _hashable(value: Any) -> Any:
    """The value with tuples for lists.

    Raises:
      TypeError: it holds a dict or a set.
    """
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    hash(value)
    return value


def load_config(
    name: str, scale: str, repeats: int | None = None, overrides: Overrides = ()
) -> Config:
    """The locked config of a run set at a scale.

    Args:
      name: one of `RUN_SETS`.
      scale: `paper`, `gpu`, `cpu` or `smoke`.
      repeats: instead of the set's number.
      overrides: keys and values that replace those of the set.

    Raises:
      InputError: an unknown scale, or an override whose key the config lacks or whose value has
        another type.
    """
    if scale not in SCALES:
        raise InputError(f"unknown scale {scale!r}; scales are {', '.join(SCALES)}")
    run_set = RUN_SETS[name]
    base = RUN_SETS[run_set.probes_of or name]
    config = importlib.import_module(f"configs.{run_set.config}").get_config(scale)
    for changes in (
        base.changes,
        base.at.get(scale, {}),
        run_set.changes,
        run_set.at.get(scale, {}),
    ):
        for key, value in changes.items():
            _set(config, key, value)
    _override(config, name, overrides)
    if run_set.probes_of:
        config.probe_only = name
    for key, value in base.derived(config).items():
        _set(config, key, value)
    moments = run_set.moments or base.moments
    if moments:
        steps = {round(config.steps * part / whole) for part, whole in moments}
        config.probe.steps = tuple(sorted(steps))
    config.repeats = repeats or run_set.repeats.get(scale, 1)
    config.lock()
    return config


def _override(config: Config, name: str, overrides: Overrides) -> None:
    known = flat_keys(config.to_dict())
    for key, value in overrides:
        if key not in known:
            near = difflib.get_close_matches(key, known, 3, 0.5) or sorted(known)
            raise InputError(
                f"--override {key}: the config of the runs {name!r} lacks this key; "
                f"it has {', '.join(near)}"
            )
        try:
            _set(config, key, value)
        except TypeError as error:
            raise InputError(
                f"--override {key}={value!r}: the value must be of the type of {known[key]!r}"
            ) from error


def config_hash(config: Config) -> str:
    """Eight digits that tell configs apart whose runs differ."""
    flat = {k: v for k, v in flat_keys(config.to_dict()).items() if k not in MUTABLE_KEYS}
    flat = {k: v for k, v in flat.items() if k not in ADDED_KEYS or v != ADDED_KEYS[k]}
    text = json.dumps(flat, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _set(config: Config, key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        config = config[group]
    if groups and last not in config:
        raise KeyError(f"the config has no {key}")
    config[last] = value
