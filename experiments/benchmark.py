"""Benchmarks by name: `python -m experiments.benchmark probes --out=probes.csv`.

Each runs all sides in one process, on the same weights and batch, in the same dtype and with the
same threads. It prints the hardware and a table whose last columns are ratios, and writes a CSV if
`--out` is given.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from experiments.benchmarks import (
    ahead,
    cold,
    depth,
    full,
    growth,
    memory,
    probes,
    repeats,
    scaling,
    train,
)

BENCHMARKS: dict[str, Callable[[Sequence[str]], None]] = {
    "ahead": ahead.main,
    "cold": cold.main,
    "depth": depth.main,
    "full": full.main,
    "growth": growth.main,
    "memory": memory.main,
    "probes": probes.main,
    "repeats": repeats.main,
    "scaling": scaling.main,
    "train": train.main,
}


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark that the first argument names; `--help` after it shows its options."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    BENCHMARKS[parser.parse_args(arguments[:1]).name](arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
