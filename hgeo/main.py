"""Command line: `python -m hgeo.main --config=configs/NAME.py[:SCALE] --workdir=DIR`.

Trains every optimizer of the config from the same initial weights, probes the Hessian diagonal of
each layer along the way, and reports. On a folder that holds the config's runs it goes on.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from hgeo.errors import InputError

# Exit codes besides 0, all runs ended well, and 1, a fault in hgeo.
BAD_INPUT, DIVERGED, INTERRUPTED = 2, 3, 130

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file[:scale].")
_WORKDIR = flags.DEFINE_string("workdir", None, "Work folder: checkpoints, records, report.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> int:
    """Runs the config; returns the exit code."""
    if len(argv) > 1:
        return _fail(f"arguments that aren't flags: {argv[1:]}")
    from hgeo.experiment import run_experiment  # after the flags: it takes seconds

    console = Console()
    try:
        finite = run_experiment(_CONFIG.value, str(_WORKDIR.value), console)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the last checkpoint")
        return INTERRUPTED
    return 0 if finite else DIVERGED


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; an unknown key, scale or flag ends in one line."""
    try:
        rest = flags.FLAGS(argv)
        _CONFIG.value.lock()  # a config file that could not be read fails here
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        text = str(error.args[0]).replace("\\n", " ").replace("\\'", "").strip("' \n")
        if "Traceback" in text:  # an error of the config file itself
            text = text.splitlines()[-1].partition(": ")[2]
        sys.exit(_fail(" ".join(text.split())))
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)  # absl would raise it to INFO
    return rest


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
