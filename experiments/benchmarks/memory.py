"""Temporary memory of the sampled diagonal in units of a gradient's, from the compiled programs."""

import argparse
import csv
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

import hgeo
from experiments.benchmarks import machine
from experiments.benchmarks.cases import Case, language_model
from hgeo.devices import compiler_options, make_mesh

MODES = ("adjoint_weighted", "forward_over_reverse", "forward_over_forward")


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark memory", description=__doc__)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--coordinates", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    scale, batch_size = ("smoke", 2) if options.smoke else ("cpu", options.batch_size)
    num = [3, 6] if options.smoke else options.coordinates
    cases = {count: language_model(scale, batch_size, count) for count in num}
    case = cases[num[0]]

    print(machine.describe())
    gradient = temporaries(jax.grad(case.loss), case)
    print(f"a gradient's temporaries: {gradient / 2**20:.2f} MiB; all else in units of it")
    rows = []
    for layers, modes in (("first layer", MODES), ("all layers", MODES[:1])):
        for mode in modes:
            chunks = sorted({1, *options.chunks})
            sizes = {c: probe_bytes(case, mode, c, layers) / gradient for c in chunks}
            rows += [
                {
                    "layers": layers,
                    "mode": mode,
                    "chunk": chunk,
                    "gradients": size,
                    "each_further": (size - sizes[1]) / (chunk - 1) if chunk > 1 else 0.0,
                }
                for chunk, size in sizes.items()
            ]
    print(f"{'layers':12} {'mode':22} {'chunk':>5} {'gradients':>9} {'each further':>12}")
    for one in rows:
        print(
            f"{one['layers']:12} {one['mode']:22} {one['chunk']:5} {one['gradients']:9.2f} "
            f"{one['each_further']:12.2f}"
        )
    flat = {
        count: probe_bytes(own, MODES[0], 1, "all layers") / gradient
        for count, own in cases.items()
    }
    counted = ", ".join(f"{count} coordinates a layer {value:.2f}" for count, value in flat.items())
    print(f"all layers, chunk 1: {counted}")
    print(budget_lines(case, gradient))
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "machine"])
            writer.writeheader()
            writer.writerows(one | {"machine": machine.describe()} for one in rows)


def probe_bytes(case: Case, mode: str, chunk: int | str, layers: str, **options: Any) -> int:
    """Temporaries of the compiled probe of the first layer or of all."""
    names = list(case.coordinates)
    chosen = names[:1] if layers == "first layer" else names
    probe = functools.partial(
        hgeo.sampled_diagonal,
        case.loss,
        coordinates={name: case.coordinates[name] for name in chosen},
        mode=mode,
        chunk_size=chunk,
        **options,
    )
    return temporaries(probe, case)


def temporaries(function: Callable[..., Any], case: Case) -> int:
    """Bytes of temporaries of a function of params and batch, compiled as `make_probe` does."""
    options = compiler_options(make_mesh(jax.devices()[:1]), ())
    jitted = jax.jit(function, compiler_options=options)
    compiled: Any = jitted.lower(case.params, case.batch).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def budget_lines(case: Case, gradient: int) -> str:
    """What `chunk_size="auto"` takes above chunk 1's, under budgets of a few times chunk 1's."""
    base = probe_bytes(case, MODES[0], 1, "all layers")
    lines = []
    for times in (1, 2, 4):
        budget = times * base
        size = probe_bytes(case, MODES[0], "auto", "all layers", memory_budget=budget)
        lines.append(
            f"chunk_size='auto' under a budget of {budget / gradient:.2f} gradients: "
            f"{(size - base) / gradient:.2f} above chunk 1"
        )
    return "\n".join(lines)
