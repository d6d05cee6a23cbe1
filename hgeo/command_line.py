"""What the commands share: the flag `--config`, one line for bad input, and the exit codes."""

import sys

import jax
from absl import flags, logging
from ml_collections import config_flags
from rich.console import Console

from hgeo.errors import InputError

# Exit codes besides 0, all went well, 1, a fault in hgeo, and 143, saved after SIGTERM.
BAD_INPUT, DIVERGED, INTERRUPTED = 2, 3, 130

CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file[:scale].")
flags.mark_flag_as_required("config")

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Be one of several processes; JAX finds the others on TPU VMs and SLURM."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Elsewhere: HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Elsewhere: how many there are.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Elsewhere: which this one is, from 0.")


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; an unknown key, scale or flag ends in one line."""
    try:
        rest = flags.FLAGS(argv)
        CONFIG.value.lock()  # a config file that could not be read fails here
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


def make_console() -> Console:
    """Joins the other processes where there are any; a console on which the first one speaks.

    Raises:
      InputError: they can't be found.
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


def fail(message: str) -> int:
    """Prints an error to stderr; returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT
