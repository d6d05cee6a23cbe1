"""Puts one small fault after another into a copy of the tree and says which test catches it.

python -m tests.mutants [NAME ...] [--jobs=N] [--no-baseline] [--everything] [--list]

The table goes to the standard output; what each test said, to the standard error.
"""

import argparse
import concurrent.futures
import pathlib
import queue
import sys
import tempfile
from collections.abc import Sequence

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.trying import EVERYTHING, Outcome, copy_tree, run_tests, with_fault


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where a fault survives or a test fails without one."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants; without any, all")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument(
        "--no-baseline", action="store_true", help="do not run the tests without a fault first"
    )
    parser.add_argument(
        "--everything", action="store_true", help="run the whole default set against each mutant"
    )
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no mutant is named {', '.join(unknown)}; known are {', '.join(known)}")
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    chosen = [known[name] for name in options.names] or list(MUTANTS)
    if options.list:
        print("\n".join(f"{mutant.name}: {mutant.fault}" for mutant in chosen))
        return 0
    with tempfile.TemporaryDirectory(prefix="hgeo-mutants-") as folder:
        return _try_all(chosen, options, pathlib.Path(folder))


def _try_all(chosen: Sequence[Mutant], options: argparse.Namespace, folder: pathlib.Path) -> int:
    compiled = folder / "compiled"
    compiled.mkdir()
    copies: queue.Queue[pathlib.Path] = queue.Queue()
    for number in range(options.jobs):
        copies.put(copy_tree(folder / f"tree{number}"))
    tests_of = lambda mutant: EVERYTHING if options.everything else mutant.tests

    def try_one(mutant: Mutant) -> Outcome:
        root = copies.get()
        try:
            with with_fault(mutant, root):
                return run_tests(tests_of(mutant), root, compiled)
        finally:
            copies.put(root)

    if not options.no_baseline:
        # Each test once, in one process: a test that fails without a fault proves nothing.
        tests = dict.fromkeys(test for mutant in chosen for test in tests_of(mutant))
        outcome = run_tests(list(tests), folder / "tree0", compiled, stop_at_first=False)
        if outcome.why != "all tests pass":
            print(f"without any fault: {outcome.test or 'no test'}: {outcome.why}", file=sys.stderr)
            return 1
        print(f"without any fault all tests pass ({outcome.seconds:.0f} s)", file=sys.stderr)

    print("| fault | file | caught by | seconds |\n| --- | --- | --- | ---: |")
    caught = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for mutant, outcome in zip(chosen, pool.map(try_one, chosen), strict=True):
            caught += outcome.is_caught
            seen = f"`{outcome.test}`" if outcome.is_caught else f"**nothing** ({outcome.why})"
            cells = [f"`{mutant.name}`: {mutant.fault}", f"`{mutant.file}`", seen]
            line = " | ".join(cell.replace("|", "\\|") for cell in cells)
            print(f"| {line} | {outcome.seconds:.0f} |", flush=True)
            print(f"{mutant.name}: {outcome.why}", file=sys.stderr, flush=True)
    print(f"\n{caught} of {len(chosen)} caught")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
