"""Time per coordinate of the exact Hessian diagonal: hgeo's three modes and PyTorch's ways.

Every way has its best chunk, found for each layer before the rounds that count, and every way's
entries must agree. What a call computes once (compiled code apart) is shared by its coordinates.
"""

import argparse
import csv
import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

import hgeo
from experiments.benchmarks import machine
from experiments.benchmarks.language_model import Case, make_case
from experiments.benchmarks.probes_table import MODES, ONE_CALL, Row, table
from experiments.benchmarks.timing import Timing, measure

# Of the layer's largest |H_ii|, between any way and forward_over_reverse, in float32.
TOLERANCE = 1e-4

Probe = Callable[[], Mapping[str, np.ndarray]]


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark probes", description=__doc__)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--coordinates", type=int, default=20, help="of each layer")
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    if options.smoke:
        case, chunks, rounds = make_case("smoke", 2, 3, num_blocks=1), [2], 1
    else:
        case = make_case("cpu", options.batch_size, options.coordinates, num_blocks=2)
        chunks, rounds = options.chunks, options.rounds

    length = case.batch["tokens"].shape[1]
    print(machine.describe())
    print(
        f"language model of width {case.shape['width']}, {case.shape['num_blocks']} blocks, "
        f"vocabulary {case.vocabulary_size}; batch {case.batch['tokens'].shape[0]} x {length}; "
        f"{len(next(iter(case.coordinates.values())).indices)} coordinates a layer; float32"
    )
    print(f"median of {rounds} interleaved rounds; {machine.load()} at the start")
    rows = run(case, chunks, rounds)
    print(table(rows))
    print(f"{machine.load()} at the end")
    if options.out:
        with open(options.out, "w", newline="") as file:
            names = [field.name for field in dataclasses.fields(Row)]
            writer = csv.DictWriter(file, [*names, "batch_size", "rounds", "machine"])
            writer.writeheader()
            same = {
                "batch_size": case.batch["tokens"].shape[0],
                "rounds": rounds,
                "machine": machine.describe(),
            }
            writer.writerows(dataclasses.asdict(row) | same for row in rows)


def run(case: Case, chunks: Sequence[int], rounds: int) -> list[Row]:
    """Finds each way's best chunk, checks its entries, then measures all ways in turns."""
    probes = hgeo_probes(case) | torch_probes(case)
    best: dict[tuple[str, str, str], tuple[int, Probe]] = {}
    entries: dict[tuple[str, str, str], Mapping[str, np.ndarray]] = {}
    for key, with_chunk in probes.items():
        calls = {chunk: with_chunk(chunk) for chunk in chunks}
        first = {chunk: call() for chunk, call in calls.items()}
        if len(chunks) > 1:
            timings = measure(calls, rounds=2)
            chunk = min(chunks, key=lambda c, found=timings: found[c].least)
        else:
            chunk = chunks[0]
        best[key], entries[key] = (chunk, calls[chunk]), first[chunk]

    truth = {
        layer: entries[layer, "hgeo", "forward_over_reverse"][layer] for layer in case.coordinates
    }
    errors = {key: largest_error(found, truth) for key, found in entries.items()}
    wrong = {key: error for key, error in errors.items() if not error <= TOLERANCE}
    if wrong:
        raise SystemExit(f"entries differ by more than {TOLERANCE} of the largest: {wrong}")

    timings = measure({key: call for key, (_, call) in best.items()}, rounds)
    return [_row(key, best[key][0], timing, errors[key], case) for key, timing in timings.items()]


def hgeo_probes(case: Case) -> dict[tuple[str, str, str], Callable[[int], Probe]]:
    """Each mode on each layer, and the one-sweep mode on all layers in one call."""

    def probe(mode, coordinates, chunk):
        compiled = jax.jit(
            lambda params, batch: hgeo.sampled_diagonal(
                case.loss, params, batch, coordinates, mode=mode, chunk_size=chunk
            )
        )
        return lambda: jax.device_get(jax.block_until_ready(compiled(case.params, case.batch)))

    def chunked(mode, coordinates):
        return lambda chunk: probe(mode, coordinates, chunk)

    layers = {
        (name, "hgeo", mode): chunked(mode, {name: chosen})
        for name, chosen in case.coordinates.items()
        for mode in MODES
    }
    return layers | {(ONE_CALL, "hgeo", MODES[0]): chunked(MODES[0], case.coordinates)}


def torch_probes(case: Case) -> dict[tuple[str, str, str], Callable[[int], Probe]]:
    """Each of PyTorch's ways on each layer; none where it is missing or on another device."""
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its columns are left out")
        return {}
    if jax.default_backend() != "cpu":
        print("PyTorch's ways are written for the CPU: its columns are left out")
        return {}
    from experiments.benchmarks.torch_ways import TorchSide

    side = TorchSide(case)

    def chunked(way, name):
        positions = side.positions(name)
        return lambda chunk: lambda: {name: way(positions, chunk)}

    return {
        (name, "torch", label): chunked(way, name)
        for name in case.coordinates
        for label, way in side.ways(name).items()
    }


def largest_error(found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> float:
    """The largest difference from the truth, in units of the layer's largest |H_ii|."""
    return max(
        float(np.max(np.abs(entries - truth[layer])) / np.max(np.abs(truth[layer])))
        for layer, entries in found.items()
    )


def _row(key, chunk: int, timing: Timing, error: float, case: Case) -> Row:
    layer, library, way = key
    coordinates = case.coordinates.values() if layer == ONE_CALL else [case.coordinates[layer]]
    num = sum(len(chosen.indices) for chosen in coordinates)
    per = 1e3 / num
    return Row(layer, library, way, chunk, timing.median * per, timing.least * per, num, error)
