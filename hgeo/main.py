"""Command line: `python -m hgeo.main --config=configs/NAME.py[:SCALE] --workdir=DIR`.

Trains every optimizer of the config from the same initial weights, probes the Hessian diagonal of
each layer along the way, and reports. On a folder that holds the config's runs it goes on.
"""

from absl import app, flags

from hgeo.command_line import (
    CONFIG,
    DIVERGED,
    INTERRUPTED,
    fail,
    make_console,
    parse_flags,
)
from hgeo.errors import InputError
from hgeo.preemption import Preempted

_WORKDIR = flags.DEFINE_string("workdir", None, "Work folder: checkpoints, records, report.")
flags.mark_flag_as_required("workdir")


def main(_: list[str]) -> int:
    """Runs the config; returns the exit code."""
    from hgeo.experiment import run_experiment  # after the flags: it takes seconds

    try:
        console = make_console()
        finite = run_experiment(CONFIG.value, str(_WORKDIR.value), console)
    except InputError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint")
        return INTERRUPTED
    except Preempted as event:
        print(f"stopped by {event} and saved; the same command goes on from here")
        return event.exit_code
    return 0 if finite else DIVERGED


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
