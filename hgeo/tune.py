"""Command line: the best learning rate of a grid for one optimizer of a config.

    python -m hgeo.tune --config=configs/NAME.py[:SCALE] --optimizer=sgdm
        --learning_rates=0.05,0.1,0.2 --workdir=DIR

Trains a run for each rate from the config's initial weights. The best rate has the lowest mean
training loss over the last `--last` of the steps; diverged runs are marked. The command writes
`tuning.json`, which `--config.sgdm.learning_rate_from=DIR/tuning.json` reads, the curve
(`figures/tuning.png`, and in `report.html`) and the runs into DIR. With `--config.share` the last
share to finish writes the result.
"""

import json

from absl import app, flags
from etils import epath
from rich.console import Console

from hgeo.command_line import CONFIG, INTERRUPTED, command_given, fail, make_console, parse_flags
from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.experiment.tuning import final_loss, run_name, tuning_config
from hgeo.experiment.work_folder import WorkFolder
from hgeo.optimizers import label
from hgeo.records.run_records import write_text
from hgeo.report import figures, write_report
from hgeo.report.tables import Table, format_number
from hgeo.training.preemption import Preempted

_WORKDIR = flags.DEFINE_string("workdir", None, "Work folder of the tuning.")
_OPTIMIZER = flags.DEFINE_string("optimizer", None, "The block of the config that is tuned.")
_RATES = flags.DEFINE_list("learning_rates", None, "The grid, separated by commas.")
_LAST = flags.DEFINE_float("last", 0.05, "Share of the steps whose loss decides.", 0.0, 1.0)
flags.mark_flags_as_required(["workdir", "optimizer", "learning_rates"])


def tune(
    config: Config,
    optimizer: str,
    rates: list[float],
    last: float,
    workdir: epath.PathLike,
    console: Console,
    command: str = "",
) -> None:
    """Trains the grid, and writes the result unless other shares have runs left.

    The report shows `command`.

    Raises:
      InputError: bad settings, or every rate diverged.
    """
    # After the flags: they take seconds.
    from hgeo.experiment.resolve import resolve
    from hgeo.experiment.run_experiment import run_resolved, unfinished

    grid, folder = tuning_config(config, optimizer, rates), WorkFolder(workdir)
    resolved = resolve(grid, folder)
    run_resolved(resolved, folder, console, command)
    if unfinished(resolved, folder, resolved.runs):
        console.print("no tuning.json yet; the last share to finish writes it")
        return
    window = max(1, round(last * resolved.steps))
    steps = range(resolved.steps - window, resolved.steps)
    losses = [
        final_loss(folder.records([run_name(optimizer, rate)], resolved.repeats), steps)
        for rate in rates
    ]
    finite = [(loss, rate) for loss, rate in zip(losses, rates, strict=True) if loss == loss]
    rows = [
        [format_number(rate), "diverged" if loss != loss else "", format_number(loss)]
        for rate, loss in zip(rates, losses, strict=True)
    ]
    title = f"{label(optimizer)}: training loss of the last {window} of {resolved.steps} steps"
    table = Table(title, ["learning rate", "", "loss"], rows, [])
    console.print(table.text(), highlight=False, markup=False, soft_wrap=True)
    if not finite:
        raise InputError(f"every learning rate of {rates} diverged; try smaller ones")
    best = min(finite)[1]
    result = {
        "optimizer": config[optimizer].get("optimizer", optimizer),
        "best": best,
        "window": window,
        "curve": [
            {"learning_rate": rate, "loss": loss if loss == loss else None}
            for rate, loss in zip(rates, losses, strict=True)
        ],
    }
    write_text(folder.path / "tuning.json", json.dumps(result, indent=2) + "\n")
    curve = figures.tuning_curve(label(optimizer), rates, losses)
    quiet = Console(quiet=True)  # its tables have been printed
    records = folder.records(resolved.optimizers, resolved.repeats)
    write_report(
        resolved.summary, records, folder.path, quiet, command=command, more={"tuning": curve}
    )
    edge = best in (min(rates), max(rates))
    console.print(
        f"best: {best:g}{' (at the edge of the grid: widen it)' if edge else ''}; "
        f"{folder.path / 'tuning.json'}",
        highlight=False,
        soft_wrap=True,
    )


def main(_: list[str]) -> int:
    """Tunes as the command line says; returns the exit code."""
    given = _RATES.value or []
    try:
        rates = [float(rate) for rate in given]
    except ValueError:
        return fail(f"--learning_rates must be numbers separated by commas, not {given}")
    try:
        console, workdir = make_console(), str(_WORKDIR.value)
        command = command_given("hgeo.tune")
        tune(CONFIG.value, str(_OPTIMIZER.value), rates, _LAST.value, workdir, console, command)
    except InputError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command continues from the last checkpoint")
        return INTERRUPTED
    except Preempted as event:
        print(f"stopped by {event} and saved; the same command continues from here")
        return event.exit_code
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
