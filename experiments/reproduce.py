"""The paper's experiments by id: `python -m experiments.reproduce table2a --workdir=DIR`.

Each writes ID.csv, ID.md and figures (PNG and SVG) into the work folder, ends with a verdict, and
adds its section to the folder's report.html. Experiments share runs: a run that the folder holds is
not trained again. The records of all runs, without checkpoints, go to DIR/records; `--records=DIR2`
starts from such a folder (the published ones are in experiments/results/records), so that a
statistic can be changed, or repeats added, without training again. `--list` shows the ids. Three
words replace the ids:

    verdicts  judges the results' files of the work folder, or without one the published files, by
              the rules of experiments/paper/verdict_rules.py
    pages     writes the pages of results, the gallery and README's table from the published files
    step0     probes the initial weights in several settings, and prints which is closest to which
              of the paper's tables
"""

import argparse
import dataclasses
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath
from rich.console import Console

from hgeo.command_line import INTERRUPTED, fail
from hgeo.errors import InputError
from hgeo.report.text_table import WIDTH
from hgeo.training.preemption import Preempted


def main(arguments: Sequence[str]) -> int:
    """Runs the named experiments; returns the exit code."""
    parser = argparse.ArgumentParser(prog="experiments.reproduce", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ID", help="experiments, in this order; or all")
    parser.add_argument("--workdir", help="where runs and results are kept")
    parser.add_argument(
        "--scale", default="cpu", help="the configs' scale: paper, gpu, cpu or smoke"
    )
    parser.add_argument("--data_dir", default="", help="the data sets' root")
    parser.add_argument(
        "--repeats", type=int, help="repeats of every run set, instead of its default"
    )
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="of every run's config"
    )
    parser.add_argument(
        "--records", help="a folder of archived records; their runs are not trained again"
    )
    parser.add_argument("--only", help="of step0, the settings whose name has this text")
    parser.add_argument("--list", action="store_true", help="list the ids")
    options = parser.parse_args(arguments)
    # After the arguments: it takes seconds.
    from experiments.paper.registry import EXPERIMENTS

    console = Console(soft_wrap=True)
    if options.list:
        _list(console)
        return 0
    if options.names == ["verdicts"]:
        return _verdicts(options.workdir, console)
    if options.names == ["pages"]:
        return _pages(console)
    if options.records and not Path(options.records).is_dir():
        return fail(f"--records={options.records} is not a folder")
    step0 = options.names == ["step0"]
    if options.only and not step0:
        return fail("--only chooses settings of step0")
    names = list(EXPERIMENTS) if options.names == ["all"] else options.names
    unknown = [name for name in names if name not in EXPERIMENTS]
    if not step0 and (unknown or not names):
        return fail(f"experiments are {', '.join(EXPERIMENTS)}; not {unknown or 'none'}")
    if not options.workdir:
        return fail("--workdir=DIR is missing")
    if options.repeats is not None and options.repeats < 1:
        return fail(f"--repeats must be at least 1, not {options.repeats}")
    without_runs = [name for name in names if not step0 and not EXPERIMENTS[name].runs]
    if options.override and without_runs:
        return fail(f"--override changes runs, which {', '.join(without_runs)} has not")
    try:
        return (_step0 if step0 else _run_all)(names, options, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command continues after the last finished run")
        return INTERRUPTED
    except Preempted as event:
        console.print(f"stopped by {event} and saved; the same command continues from here")
        return event.exit_code


def _run_all(names: Sequence[str], options: argparse.Namespace, console: Console) -> int:
    from experiments.paper.page import write_page
    from experiments.paper.registry import EXPERIMENTS
    from experiments.paper.result import write_result
    from experiments.paper.training import checkpoint_bytes_of, describe
    from experiments.paper.verdicts import judge
    from hgeo.experiment.disk_use import disk_line

    folder = epath.Path(options.workdir)
    try:
        context = _context(options, console)
        sets = dict.fromkeys(runs for name in names for runs in EXPERIMENTS[name].runs)
        needed = checkpoint_bytes_of(sets, context)
    except (InputError, OSError) as error:
        return fail(str(error))
    if needed:
        console.print(disk_line(needed, folder), highlight=False)
    changes = "" if options.repeats is None else f" --repeats={options.repeats}"
    changes += "".join(f" --override={shlex.quote(text)}" for text in options.override)
    for name in names:
        start = time.monotonic()
        experiment = EXPERIMENTS[name]
        console.print(f"{name}: {experiment.shows}", highlight=False)
        command = f"python -m experiments.reproduce {name} --scale={options.scale}{changes}"
        command += " --data_dir=DIR --workdir=D" if experiment.runs else " --workdir=D"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = experiment.run(context)
            verdict = f"{judge(name, found.rows)}: {found.verdict}"
            result = dataclasses.replace(found, verdict=verdict)
            write_result(folder, name, result, command)
            write_page(folder, name, result, command, describe(experiment.runs, context))
        except (InputError, OSError) as error:
            return fail(str(error))
        console.print(result.table.text(), highlight=False, markup=False)
        console.print(f"{name}: {result.verdict}", highlight=False, markup=False)
        console.print(f"{name}: {time.monotonic() - start:.0f} s, in {folder}\n", highlight=False)
    return 0


def _context(options: argparse.Namespace, console: Console) -> Any:
    from experiments.paper.run_configs import parse_overrides
    from experiments.paper.training import ReproductionContext

    return ReproductionContext(
        epath.Path(options.workdir),
        options.scale,
        console,
        options.data_dir,
        options.repeats,
        parse_overrides(options.override),
        epath.Path(options.records) if options.records else None,
    )


def _step0(names: Sequence[str], options: argparse.Namespace, console: Console) -> int:
    from experiments.paper.step0 import step0

    try:
        table = step0(_context(options, console), options.only or "")
    except (InputError, OSError) as error:
        return fail(str(error))
    console.print(table.markdown(), highlight=False, markup=False)
    return 0


def _verdicts(workdir: str | None, console: Console) -> int:
    from experiments.paper.registry import RESULTS
    from experiments.paper.verdicts import verdict_table

    folder = RESULTS if workdir is None else Path(workdir)
    if not folder.is_dir():
        return fail(f"{folder} is not a folder: give the folder of results")
    table = verdict_table(folder)
    console.print(table.markdown(), highlight=False, markup=False)
    return 0


def _pages(console: Console) -> int:
    from experiments.paper.pages import write_pages

    changed = write_pages()
    for path in changed:
        console.print(f"wrote {path}", highlight=False, markup=False)
    console.print(f"{len(changed)} file(s) changed", highlight=False)
    return 0


def _list(console: Console) -> None:
    from experiments.paper.registry import EXPERIMENTS, is_published

    console.print(f"{'id':21} {'smoke':6} {'cpu':8} {'gpu, paper':10} {'published':17} shows")
    for name, experiment in EXPERIMENTS.items():
        smoke, cpu, gpu = (experiment.cost(scale) for scale in ("smoke", "cpu", "gpu"))
        published = "yes" if is_published(name) else "not yet published"
        start = f"{name:21} {smoke:6} {cpu:8} {gpu:10} {published:17} "
        lines = textwrap.wrap(experiment.shows, WIDTH - len(start))
        console.print(start + f"\n{'':{len(start)}}".join(lines), highlight=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
