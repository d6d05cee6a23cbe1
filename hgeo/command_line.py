"""Shared by the commands: the flag `--config`, one line for bad input, and the exit codes."""

import difflib
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags, logging
from ml_collections import ConfigDict, config_flags
from rich.console import Console

from hgeo.config import Config
from hgeo.errors import InputError

# Exit codes besides 0, all went well, 1, a fault in hgeo, and 143, saved after SIGTERM.
BAD_INPUT, DIVERGED, INTERRUPTED = 2, 3, 130

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Config file, after a colon its scale: configs/lm.py:cpu"
)
flags.mark_flag_as_required("config")

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Run as one of several processes; JAX finds the others on TPU VMs and SLURM.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Elsewhere: HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Elsewhere: the number of processes.")
_PROCESS = flags.DEFINE_integer(
    "process_id", None, "Elsewhere: the number of this process, from 0."
)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; an unknown key, scale or flag gives one line that suggests the right name."""
    try:
        for given in _config_files(argv):
            _check_keys(argv, _read(given))
        rest = flags.FLAGS(argv)
    except InputError as error:
        sys.exit(fail(str(error)))
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        text = str(error.args[0]).replace("\\n", " ").replace("\\'", "").strip("' \n")
        if "Traceback" in text:  # an error of the config file itself
            text = text.splitlines()[-1].partition(": ")[2]
        sys.exit(fail(" ".join(text.split())))
    if len(rest) > 1:
        sys.exit(fail(f"arguments that aren't flags: {rest[1:]}"))
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)  # absl would raise it to INFO
    return rest


def _config_files(argv: Sequence[str]) -> Iterator[str]:
    """What `--config` is given."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        given = re.fullmatch(r"--?config(?:=(.*))?", argument)
        if given:
            yield following if given[1] is None else given[1]


def _read(given: str) -> Config:
    """The config of a file and scale; if the file is absent, an InputError lists its neighbours.

    `config_flags` reads the file again, and would report an unknown key without its section.
    """
    path = Path(given.partition(":")[0])
    if not path.is_file():
        near = sorted(str(other) for other in path.parent.glob("*.py") if other.stem != "common")
        there = f"there are {', '.join(near)}" if near else f"{path.parent}/ has none"
        raise InputError(f"no config file {str(path)!r}; {there}")
    # A config imports its defaults as `configs.common`, from any current folder.
    sys.path.append(str(path.resolve().parent.parent))
    parser: Any = flags.FLAGS["config"].parser
    return parser.parse(given)


def _check_keys(argv: Sequence[str], config: Config) -> None:
    """Raises an InputError with the likeliest keys if a flag sets a key that the config lacks."""
    keys = dict(_keys(config))
    for argument in argv[1:]:
        key = argument.lstrip("-").partition("=")[0]
        if not re.match(r"--?config\.", argument) or keys.get(key) is False:
            continue
        if keys.get(key):
            raise InputError(f"{key} is a section of the config; set its keys, as {key}.KEY=VALUE")
        last = key.rpartition(".")[2]
        elsewhere = [other for other in keys if other.endswith(f".{last}")]
        likely = elsewhere or difflib.get_close_matches(key, keys, n=3, cutoff=0.7)
        known = f"did you mean {' or '.join(likely)}?" if likely else f"known are {', '.join(keys)}"
        raise InputError(f"unknown config key {key}; {known}")


def _keys(config: Config, prefix: str = "config") -> Iterator[tuple[str, bool]]:
    """Every key with its path, and whether it is a section."""
    for name, value in config.items():
        key, section = f"{prefix}.{name}", isinstance(value, ConfigDict)
        yield key, section
        if section:
            yield from _keys(value, key)


def make_console() -> Console:
    """Joins the other processes, if any; gives a console that prints in the first process alone.

    Raises:
      InputError: the other processes can't be found.
    """
    if _DISTRIBUTED.value:
        try:
            jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"--distributed: {error}; on other machines than TPU VMs and SLURM give "
                "--coordinator, --num_processes and --process_id"
            ) from error
    return Console(quiet=jax.process_index() > 0)


def command_given(module: str) -> str:
    """The command that started this process, to be pasted into a shell."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def fail(message: str) -> int:
    """Prints an error to stderr; returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT
