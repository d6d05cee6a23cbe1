"""Time per coordinate of the exact Hessian diagonal: hgeo's modes and PyTorch's ways.

Every way has its best chunk, found before the rounds that count, and every way's entries must
agree. What a call computes once (compiled code apart) is shared by its coordinates. Then the limit:
how long the probe's matrix products take alone.
"""

import argparse
import csv
import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import hgeo
from experiments.benchmarks import limit, machine
from experiments.benchmarks.cases import CASES, Case
from experiments.benchmarks.probes_table import MODES, ONE_CALL, TORCH_WAYS, Row, table
from experiments.benchmarks.timing import Timing, measure
from hgeo.second_order.adjoint_weighted import ShareSegments
from hgeo.second_order.evaluate import evaluate_quadratic_forms

# Of the layer's largest |H_ii|, between any way and forward_over_reverse, in float32.
TOLERANCE = 1e-4

Key = tuple[str, str, str]  # layer, library, way
Probe = Callable[[], Mapping[str, np.ndarray]]


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark probes", description=__doc__)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--case", choices=sorted(CASES), default="lm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--coordinates", type=int, default=20, help="of each layer")
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 4])
    parser.add_argument(
        "--modes",
        nargs="*",
        choices=MODES,
        default=MODES,
        help="of hgeo, layer by layer; in one call there are always all of them",
    )
    parser.add_argument(
        "--torch_ways", nargs="*", choices=TORCH_WAYS, default=TORCH_WAYS, help="of PyTorch"
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    scale = "cpu"
    if options.smoke:
        options.batch_size, options.coordinates, options.chunks, options.rounds = 2, 3, [2], 1
        scale = "smoke"
    case = CASES[options.case](scale, options.batch_size, options.coordinates)

    print(machine.describe())
    print(f"{case.about}; {options.coordinates} coordinates a layer; float32")
    print(f"median of {options.rounds} interleaved rounds; {machine.load()} at the start")
    probes = hgeo_probes(case, options.modes) | torch_probes(case, options.torch_ways)
    rows = run(case, probes, options.chunks, options.rounds)
    print(table(rows))
    print(operations_line(case))
    print(limit_line(case, rows, options.rounds))
    print(f"{machine.load()} at the end")
    if options.out:
        with open(options.out, "w", newline="") as file:
            names = [field.name for field in dataclasses.fields(Row)]
            writer = csv.DictWriter(file, [*names, "about", "rounds", "machine"])
            writer.writeheader()
            same = {"about": case.about, "rounds": options.rounds, "machine": machine.describe()}
            writer.writerows(dataclasses.asdict(row) | same for row in rows)


def run(
    case: Case,
    probes: Mapping[Key, Callable[[int], Probe]],
    chunks: Sequence[int],
    rounds: int,
) -> list[Row]:
    """Finds each way's best chunk, checks its entries, then measures all ways in turns."""
    best: dict[Key, tuple[int, Probe]] = {}
    entries: dict[Key, Mapping[str, np.ndarray]] = {}
    for key, with_chunk in probes.items():
        calls = {chunk: with_chunk(chunk) for chunk in chunks}
        first = {chunk: call() for chunk, call in calls.items()}
        chunk = chunks[0]
        if len(chunks) > 1:
            timings = measure(calls, rounds=2)
            chunk = min(chunks, key=lambda c, found=timings: found[c].least)
        best[key], entries[key] = (chunk, calls[chunk]), first[chunk]

    truth = entries[ONE_CALL, "hgeo", "forward_over_reverse"]
    errors = {key: largest_error(found, truth) for key, found in entries.items()}
    wrong = {key: error for key, error in errors.items() if not error <= TOLERANCE}
    if wrong:
        raise SystemExit(f"entries differ by more than {TOLERANCE} of the largest: {wrong}")

    timings = measure({key: call for key, (_, call) in best.items()}, rounds)
    return [_row(key, best[key][0], timing, errors[key], case) for key, timing in timings.items()]


def hgeo_probes(case: Case, modes: Sequence[str]) -> dict[Key, Callable[[int], Probe]]:
    """Some modes on each layer, and all of them on all layers in one call."""

    def chunked(mode, coordinates):
        def with_chunk(chunk):
            compiled = jax.jit(diagonal(case, mode, coordinates, chunk))
            return lambda: jax.device_get(compiled(case.params, case.batch))

        return with_chunk

    layers = {
        (name, "hgeo", mode): chunked(mode, {name: chosen})
        for name, chosen in case.coordinates.items()
        for mode in modes
    }
    return layers | {(ONE_CALL, "hgeo", mode): chunked(mode, case.coordinates) for mode in MODES}


def diagonal(
    case: Case,
    mode: str,
    coordinates: Mapping[str, hgeo.Coordinates],
    chunk: int,
    share_segments: ShareSegments = "auto",
) -> Callable[[Any, Any], Any]:
    """The probe as a function of params and batch."""
    return lambda params, batch: evaluate_quadratic_forms(
        case.loss,
        params,
        batch,
        coordinates,
        mode=mode,
        chunk_size=chunk,
        share_segments=share_segments,
    )[0]


def torch_probes(case: Case, ways: Sequence[str]) -> dict[Key, Callable[[int], Probe]]:
    """Some of PyTorch's ways on each layer; none if PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its columns are left out")
        return {}
    from experiments.benchmarks.pytorch.ways import TorchSide

    side = TorchSide(case)

    def chunked(way, name):
        positions = side.positions(name)
        return lambda chunk: lambda: {name: way(positions, chunk)}

    return {
        (name, "torch", label): chunked(way, name)
        for name in case.coordinates
        for label, way in side.ways(name).items()
        if label in ways
    }


def largest_error(found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> float:
    """The largest difference from the truth, in units of the layer's largest |H_ii|."""
    return max(
        float(np.max(np.abs(entries - truth[layer])) / np.max(np.abs(truth[layer])))
        for layer, entries in found.items()
    )


def operations_line(case: Case) -> str:
    """What the compiled program of each mode computes for a coordinate of the first layer.

    XLA counts the body of a loop once, so that all coordinates stand in one chunk.
    """
    name, chosen = next(iter(case.coordinates.items()))
    num = len(chosen.indices)
    counted = {}
    for mode in MODES:
        probe = jax.jit(diagonal(case, mode, {name: chosen}, num))
        cost = probe.lower(case.params, case.batch).compile().cost_analysis()
        assert cost is not None, "XLA counts no operations on this backend"
        counted[mode] = cost["flops"] / num
    least = counted["forward_over_reverse"]
    each = ", ".join(f"{m} {n / 1e9:.3g} ({n / least:.2f})" for m, n in counted.items())
    return f"GFLOP of the compiled program a coordinate, {name} (over forward_over_reverse): {each}"


def limit_line(case: Case, rows: Sequence[Row], rounds: int) -> str:
    """How near the call over all layers is to the time of its matrix products alone."""
    (row,) = [row for row in rows if (row.layer, row.way) == (ONE_CALL, "adjoint_weighted")]
    probe = diagonal(case, row.way, case.coordinates, row.chunk)
    compiled = jax.jit(probe).lower(case.params, case.batch).compile()
    # Each layer's equations must stand in the program as often as they run, to be counted.
    separate = diagonal(case, row.way, case.coordinates, row.chunk, share_segments=False)
    counts = limit.products(separate, case.params, case.batch)
    call = lambda: jax.block_until_ready(compiled(case.params, case.batch))
    call()
    operations, least, seconds = limit.least(counts, call, rounds)
    return (
        f"{row.layer}, {row.way}: {operations / 1e9:.1f} GFLOP in products of {len(counts)} "
        f"shapes, {1e3 * least:.0f} ms by themselves ({operations / least / 1e9:.0f} GFLOP/s); "
        f"the call takes {1e3 * seconds:.0f} ms beside them: {least / seconds:.2f} of the limit"
    )


def _row(key: Key, chunk: int, timing: Timing, error: float, case: Case) -> Row:
    layer, library, way = key
    coordinates = case.coordinates.values() if layer == ONE_CALL else [case.coordinates[layer]]
    num = sum(len(chosen.indices) for chosen in coordinates)
    per = 1e3 / num
    return Row(layer, library, way, chunk, timing.median * per, timing.least * per, num, error)
