"""Recomputation in deep models: temporaries and time of a probe, `remat="block"` against `"none"`.

The language model's first layer at 20 coordinates, and all its layers in one call, by depth;
temporaries in units of a gradient's.
"""

import argparse
import csv
import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax

import hgeo
from experiments.benchmarks import machine
from experiments.benchmarks.cases import Case, language_model
from experiments.benchmarks.memory import temporaries
from experiments.benchmarks.timing import measure
from hgeo.devices import compiler_options, make_mesh

REMAT = ("none", "block")


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark depth", description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--layers", nargs="+", choices=("first", "all"), default=["first", "all"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--smoke", action="store_true", help="tiny models, in seconds")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.depths, options.layers, options.rounds = [1, 2], ["first"], 1

    print(machine.describe())
    print(f"{'layers':6} {'depth':>5} {'gradient':>12} {'none':>6} {'block':>6} {'time ratio':>10}")
    rows = []
    for layers in options.layers:
        for depth in options.depths:
            case = _case(depth, layers, options.smoke)
            row = {"layers": layers, "depth": depth, **_of_case(case, options.rounds)}
            rows.append(row)
            print(
                f"{layers:6} {depth:5} {row['gradient_mib']:8.1f} MiB {row['none']:6.2f} "
                f"{row['block']:6.2f} {row['time_ratio']:10.2f}",
                flush=True,
            )
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "machine"])
            writer.writeheader()
            writer.writerows(row | {"machine": machine.describe()} for row in rows)


def _case(depth: int, layers: str, smoke: bool) -> Case:
    shape: dict[str, Any] = {"num_blocks": depth}
    size = (2, 3) if smoke else (16, 20)
    if not smoke:
        shape |= {"width": 64, "ffn_width": 256}
    case = language_model("smoke" if smoke else "cpu", *size, **shape)
    if layers == "first":
        name = next(iter(case.coordinates))
        first = OrderedDict([(name, case.coordinates[name])])
        return dataclasses.replace(case, coordinates=first)
    return case


def _of_case(case: Case, rounds: int) -> dict[str, float]:
    asked = compiler_options(make_mesh(jax.devices()[:1]), ())
    gradient = temporaries(jax.grad(case.loss), case)
    calls, sizes = {}, {}
    for remat in REMAT:
        probe = functools.partial(
            hgeo.sampled_diagonal, case.loss, coordinates=case.coordinates, remat=remat
        )
        jitted = jax.jit(probe, compiler_options=asked)
        compiled: Any = jitted.lower(case.params, case.batch).compile()
        sizes[remat] = compiled.memory_analysis().temp_size_in_bytes / gradient
        call = lambda run=jitted: jax.block_until_ready(run(case.params, case.batch))
        call()
        calls[remat] = call
    times = measure(calls, rounds)
    ratio = times["block"].median / times["none"].median
    return {"gradient_mib": gradient / 2**20, **sizes, "time_ratio": ratio}
