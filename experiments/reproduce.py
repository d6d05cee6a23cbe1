"""The paper's experiments by name: `python -m experiments.reproduce theorem1 --workdir=DIR`.

Each writes NAME.csv, NAME.md and figures (PNG and SVG) into the work folder and ends with a
verdict. Runs that the folder already holds are not trained again. `--list` shows the names.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence

from etils import epath
from rich.console import Console

from experiments.paper.result import write_result
from hgeo.command_line import INTERRUPTED, fail
from hgeo.errors import InputError

# By name: the module of `experiments.paper` that has `run(scale, folder, console) -> Result`, and
# what it shows.
EXPERIMENTS = {
    "theorem1": "R_med of a two-layer linear network: SGD+M's grows like log d, Adam's tends to 1",
    "corollary1": "the same at equal loss",
    "theorem2": "R_diag of its whole Hessian falls during training",
    "linear_limits": "where the phenomenon stops: large rates, large initial weights, depth",
}


def main(arguments: Sequence[str]) -> int:
    """Runs the experiments that are named; returns the exit code."""
    parser = argparse.ArgumentParser(prog="experiments.reproduce", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments, in this order")
    parser.add_argument("--workdir", help="where runs and results are kept")
    parser.add_argument("--scale", default="cpu", help="the config's scale: paper, cpu or smoke")
    parser.add_argument("--list", action="store_true", help="show the names and end")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True)
    if options.list:
        for name, shows in EXPERIMENTS.items():
            console.print(f"{name:14} {shows}", highlight=False)
        return 0
    unknown = [name for name in options.names if name not in EXPERIMENTS]
    if unknown or not options.names:
        return fail(f"experiments are {', '.join(EXPERIMENTS)}; not {unknown or 'none'}")
    if not options.workdir:
        return fail("--workdir=DIR is missing")
    try:
        return _run_all(options.names, options.scale, epath.Path(options.workdir), console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on after the last finished run")
        return INTERRUPTED


def _run_all(names: Sequence[str], scale: str, folder: epath.Path, console: Console) -> int:
    for name in names:
        start = time.monotonic()
        console.print(f"{name}: {EXPERIMENTS[name]}", highlight=False)
        module = importlib.import_module(f"experiments.paper.{name}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            result = module.run(scale, folder, console)
            write_result(folder, name, result)
        except (InputError, OSError) as error:
            return fail(str(error))
        console.print(result.table.text(), highlight=False, markup=False)
        console.print(f"{name}: {result.verdict}", highlight=False, markup=False)
        console.print(f"{name}: {time.monotonic() - start:.0f} s, in {folder}\n", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
