"""Time per entry of a whole layer's exact diagonal, against entry by entry.

A 128 x 512 kernel, the first feed-forward matrix of a language model of three blocks, at 16
sequences of 32 tokens. Then what the diagonal of each layer costs, how far R_med of 200 sampled
entries is from that of all, and what a layer of the translation model at `paper` would take.
"""

import argparse
import csv
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hgeo
from configs import translation
from experiments.benchmarks import machine
from experiments.benchmarks.timing import measure
from hgeo.models.seq2seq import Seq2Seq, token_loss
from hgeo.models.transformer import LanguageModel
from hgeo.second_order.flops import operations

TOLERANCE = 1e-4  # of the layer's largest entry, in float32
LAYER = "block0/linear1/kernel"
MODES = ("adjoint_weighted", "forward_over_reverse")
SIZES: dict[str, Any] = {
    "cpu": {"width": 128, "ffn_width": 512, "num_blocks": 3, "num_heads": 4},
    "smoke": {"width": 8, "ffn_width": 16, "num_blocks": 1, "num_heads": 2},
}


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark full", description=__doc__)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--coordinates", type=int, default=64, help="sampled, to time them")
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.rounds, options.coordinates, options.chunks = 1, 4, [2]
    loss, params, batch, layers = language_model("smoke" if options.smoke else "cpu", options.smoke)

    print(machine.describe())
    print(f"median of {options.rounds} interleaved rounds; {machine.load()} at the start")
    rows, diagonal, rate = time_one_layer(loss, params, batch, layers[LAYER], options)
    print(table(rows))
    costs = hgeo.full_diagonal_cost(loss, params, batch, layers)
    unit = gradient_operations(loss, params, batch)
    print(cost_table(costs, unit, rate))
    print(spread_line(diagonal))
    print(paper_line(rate, smoke=options.smoke))
    print(f"{machine.load()} at the end")
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "machine"])
            writer.writeheader()
            writer.writerows(row | {"machine": machine.describe()} for row in rows)


def language_model(scale: str, smoke: bool) -> tuple[Any, Any, Any, Any]:
    """Loss, params, a batch of random tokens, and the layers."""
    vocabulary, shape = (20, (2, 5)) if smoke else (1000, (16, 33))
    model = LanguageModel(vocabulary, **SIZES[scale])
    init, drawn = jax.random.split(jax.random.key(0))
    tokens = jax.random.randint(drawn, shape, 0, vocabulary)

    def loss(params, tokens):
        logits: Any = model.apply({"params": params}, tokens[:, :-1])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]))

    params = model.init(init, tokens[:, :-1])["params"]
    return loss, params, tokens, hgeo.find_layers(params, model.layer_order())


def time_one_layer(loss, params, batch, layer, options):
    """Rows of the table, the whole diagonal, and operations per second of the full diagonal."""
    layers = {LAYER: layer}
    coordinates = hgeo.sample_coordinates(layers, options.coordinates, jax.random.key(1))

    def call(function):
        compiled = jax.jit(function)
        return lambda: jax.device_get(jax.block_until_ready(compiled(params, batch)))[LAYER]

    calls = {
        "full_diagonal": call(
            functools.partial(hgeo.full_diagonal, loss, layers=layers, max_gradients=1e6)
        )
    }
    chunks = {}
    for mode in MODES:
        probe = functools.partial(hgeo.sampled_diagonal, loss, coordinates=coordinates, mode=mode)
        tried = {c: call(functools.partial(probe, chunk_size=c)) for c in options.chunks}
        for one in tried.values():
            one()
        timings = measure(tried, rounds=2)
        chunks[mode] = min(tried, key=lambda c, found=timings: found[c].least)
        calls[mode] = tried[chunks[mode]]

    entries = {way: one() for way, one in calls.items()}
    sampled = entries["full_diagonal"][np.asarray(coordinates[LAYER].indices)]
    scale = np.max(np.abs(entries["full_diagonal"]))
    errors = {way: np.max(np.abs(entries[way] - sampled)) / scale for way in MODES}
    wrong = {way: error for way, error in errors.items() if not error <= TOLERANCE}
    if wrong:
        raise SystemExit(f"entries differ by more than {TOLERANCE} of the largest: {wrong}")

    timings = measure(calls, options.rounds)
    per_entry = {way: 1e3 * t.median / len(entries[way]) for way, t in timings.items()}
    cost = hgeo.full_diagonal_cost(loss, params, batch, layers)[LAYER]
    arithmetic = cost.gradients * gradient_operations(loss, params, batch)
    rows = [
        {
            "way": way,
            "entries": len(entries[way]),
            "chunk": chunks.get(way, ""),
            "seconds": timings[way].median,
            "ms_per_entry": ms,
            "full_is_faster": ms / per_entry["full_diagonal"],
            "largest_error": errors.get(way, 0.0),
        }
        for way, ms in per_entry.items()
    ]
    return rows, entries["full_diagonal"], arithmetic / timings["full_diagonal"].median


def gradient_operations(loss, params, batch) -> float:
    """Those of one gradient."""
    return operations(jax.grad(loss), params, batch)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The measured times."""
    lines = [f"{LAYER}: way, entries, chunk, seconds, ms per entry, times the full diagonal's"]
    lines += [
        f"  {row['way']:22} {row['entries']:7,} {row['chunk']!s:>3} {row['seconds']:8.2f} "
        f"{row['ms_per_entry']:8.4f} {row['full_is_faster']:6.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def cost_table(costs, unit: float, rate: float) -> str:
    """The way and the cost of every layer."""
    lines = ["full diagonal of each layer: way, sweeps, gradients, seconds at the measured rate"]
    lines += [
        f"  {name:32} {cost.method:11} {cost.sweeps:7,} {cost.gradients:9,.0f} "
        f"{cost.gradients * unit / rate:8.1f}"
        for name, cost in costs.items()
    ]
    return "\n".join(lines)


def spread_line(diagonal: np.ndarray) -> str:
    """R_med of all entries beside that of 200 drawn ones."""
    num = min(200, len(diagonal))
    spread = hgeo.r_med_spread(jnp.asarray(diagonal), jax.random.key(2), num=num, num_draws=1000)
    return (
        f"{LAYER}: R_med of all {len(diagonal):,} entries {float(hgeo.r_med(diagonal)):.2f}; of "
        f"{num} drawn ones {float(spread.median):.2f} in the median of 1,000 draws, "
        f"{float(spread.low):.2f} to {float(spread.high):.2f} in 90% of them"
    )


def paper_line(rate: float, smoke: bool) -> str:
    """The expected time of the translation model's first feed-forward layer at `paper`."""
    config: Any = translation.get_config("smoke" if smoke else "paper")
    examples, length = config.probe.microbatch_size or config.batch_size, config.data.max_length
    # The vocabularies of Multi30k's train split with the tutorial's tokeniser.
    settings: Any = dict(config.model) | {"dropout": 0.0}
    model = Seq2Seq(19214, 10837, pad_id=1, **settings)
    ids = jax.ShapeDtypeStruct((examples, length), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), ids, ids)["params"]

    def loss(params, batch):
        source, target = batch
        logits: Any = model.apply({"params": params}, source, target)
        return token_loss(logits, target, 1)

    names = [path for path in model.layer_order() if path.endswith("linear1/kernel")]
    layers = hgeo.find_layers(params, names[:1])
    (cost,) = hgeo.full_diagonal_cost(loss, params, (ids, ids), layers).values()
    as_scalar = lambda params, batch: loss(params, batch).total
    unit = operations(jax.grad(as_scalar), params, (ids, ids))
    name = names[0]
    pieces = -(-config.probe.batch_size // examples)
    hours = pieces * cost.gradients * unit / rate / 3600
    return (
        f"translation at {'smoke' if smoke else 'paper'}, {name}: by {cost.method}, "
        f"{cost.sweeps:,} sweeps or {cost.gradients:,.0f} gradients of each of {pieces} pieces of "
        f"{examples} x {length} tokens; about {hours:,.1f} hours at the {rate / 1e9:.0f} "
        "billion operations a second measured above"
    )
