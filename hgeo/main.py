"""Train a config's optimizers from the same initial weights, probe each layer's curvature, report.

    python -m hgeo.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m hgeo.main --config=configs/lm.py:cpu --config.data_dir=DIR --workdir=runs/lm

Configs: lm translation bert resnet at the scales paper, gpu, cpu and smoke; quickstart at default
and smoke. Each key of a config is a flag, and its file shows them all: --config.steps=600
--config.adam.learning_rate=1e-3 --config.optimizers="('sgdm','adam')".

The run writes report.html, table.md, geometry.csv and losses.csv into the work folder. After a stop
(Ctrl-C, SIGTERM, a kill) the same command continues; on a finished folder it prints the tables. It
uses all devices that JAX sees.

Exit codes: 0 all went well, 2 bad input (one line says what), 3 an inf or NaN in a loss, a state or
a Hessian entry, 130 stopped by Ctrl-C, 143 by SIGTERM.

See also: python -m hgeo.tune finds a learning rate, python -m hgeo.footprint prints operations and
memory before a long run, python -m experiments.reproduce --list shows the paper's experiments.
"""

from absl import app, flags

from hgeo import command_line
from hgeo.command_line import (
    CONFIG,
    DIVERGED,
    INTERRUPTED,
    command_given,
    fail,
    make_console,
    parse_flags,
)
from hgeo.errors import InputError
from hgeo.training.preemption import Preempted

_WORKDIR = flags.DEFINE_string("workdir", None, "Work folder: checkpoints, records, report.")
flags.mark_flag_as_required("workdir")
flags.adopt_module_key_flags(command_line)


def main(_: list[str]) -> int:
    """Runs the config; returns the exit code."""
    from hgeo.experiment.run_experiment import run_experiment  # after the flags: it takes seconds

    try:
        console = make_console()
        command = command_given("hgeo.main")
        finite = run_experiment(CONFIG.value, str(_WORKDIR.value), console, command)
    except InputError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command continues from the last checkpoint")
        return INTERRUPTED
    except Preempted as event:
        print(f"stopped by {event} and saved; the same command continues from here")
        return event.exit_code
    return 0 if finite else DIVERGED


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
