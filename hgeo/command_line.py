"""What the commands share: the flag `--config`, one line for bad input, and the exit codes."""

import sys

from absl import flags, logging
from ml_collections import config_flags

# Exit codes besides 0, all went well, and 1, a fault in hgeo.
BAD_INPUT, DIVERGED, INTERRUPTED, PREEMPTED = 2, 3, 130, 143

CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file[:scale].")
flags.mark_flag_as_required("config")


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


def fail(message: str) -> int:
    """Prints an error to stderr; returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT
