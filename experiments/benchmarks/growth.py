"""How time and memory of a probe grow: log-log slopes of the language model's, all layers."""

import argparse
import csv
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import machine
from experiments.benchmarks.cases import Case, language_model
from experiments.benchmarks.probes import diagonal
from experiments.benchmarks.timing import measure

SIZES = {
    "coordinates": (20, 40, 80, 160),
    "batch": (8, 16, 32, 64),
    "length": (16, 32, 64, 128),
    "depth": (1, 2, 4, 8),
    "width": (64, 128, 256),
}
BASE = {"coordinates": 10, "batch": 16, "length": 32, "depth": 2, "width": 128}


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark growth", description=__doc__)
    parser.add_argument("--axes", nargs="+", choices=sorted(SIZES), default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    scale = "cpu"
    sizes, base = SIZES, BASE
    if options.smoke:
        scale, options.axes, options.rounds = "smoke", ["coordinates"], 1
        sizes = {"coordinates": (2, 4)}
        base = {"coordinates": 2, "batch": 2, "length": 4, "depth": 1, "width": 8}

    print(machine.describe())
    print(f"from {base}, one size at a time; adjoint weighted; {machine.load()} at the start")
    rows = []
    for axis in options.axes:
        own = [of_size(scale, {**base, axis: size}, options.rounds) for size in sizes[axis]]
        for size, row in zip(sizes[axis], own, strict=True):
            rows.append({"axis": axis, "size": size, **row})
            print(f"{axis:12} {size:5} {row['seconds']:9.3f} s {row['mib']:9.1f} MiB", flush=True)
        slopes = {name: slope(sizes[axis], [row[name] for row in own]) for name in own[0]}
        print(f"{axis:12} slope {slopes['seconds']:9.2f}   {slopes['mib']:9.2f}")
    print(f"{machine.load()} at the end")
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "machine"])
            writer.writeheader()
            writer.writerows(row | {"machine": machine.describe()} for row in rows)


def of_size(scale: str, size: dict[str, int], rounds: int) -> dict[str, float]:
    """Seconds and MiB of temporaries of the probe of all layers."""
    case: Case = language_model(
        scale,
        size["batch"],
        size["coordinates"],
        length=size["length"],
        width=size["width"],
        ffn_width=size["width"],
        num_blocks=size["depth"],
    )
    probe = jax.jit(diagonal(case, "adjoint_weighted", case.coordinates, 4))
    compiled: Any = probe.lower(case.params, case.batch).compile()
    call = lambda: jax.block_until_ready(compiled(case.params, case.batch))
    call()
    seconds = measure({0: call}, rounds)[0].median
    return {
        "seconds": seconds,
        "mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
    }


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The exponent of the power law that fits best."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
