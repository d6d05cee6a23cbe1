"""What data parallelism exchanges and divides, read from the compiled programs; then on paper.

An update and a probe of the language model are compiled for 1, 2, 4 and 8 (virtual) devices: bytes
that collectives exchange, operations on each device; then a probe of params that lie in shards.
From operations and stated speeds, the
expected time of Table 2(a) at paper scale, and of a probe of a model of a billion weights.
"""

import argparse
import csv
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hgeo
from configs import translation
from experiments.benchmarks import machine
from experiments.benchmarks.cases import PAD, Case, language_model
from experiments.benchmarks.sharded import Size, sharded_lines
from hgeo.devices import AXIS, REPLICATED, SHARDED, data_parallel, make_mesh
from hgeo.losses import value_and_grad
from hgeo.models.seq2seq import Seq2Seq, token_loss
from hgeo.models.transformer import LanguageModel
from hgeo.second_order.evaluate import evaluate_quadratic_forms
from hgeo.second_order.flops import operations

DEVICES = (1, 2, 4, 8)
BYTES = {"f32": 4, "f64": 8, "s32": 4, "u32": 4, "pred": 1, "bf16": 2, "f16": 2}

# Float32 products at full precision: peak operations a second of one device, as their makers state
# them (an H100's CUDA cores; a TPU v4 chip takes six bfloat16 passes a product), and the share of
# it that is assumed to be reached.
MACHINES = {"1 H100": (67e12, 1), "8 H100": (67e12, 8), "TPU v4-32": (275e12 / 6, 16)}
REACHED = 0.3

SMALLEST = Size("smallest", width=8, blocks=1)


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark scaling", description=__doc__)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    devices = DEVICES[:2] if options.smoke else DEVICES
    settings: Any = jax.config
    if settings.jax_num_cpu_devices < max(devices):
        jax.config.update("jax_num_cpu_devices", max(devices))
    case = language_model("smoke", 8, 3) if options.smoke else language_model("cpu", 16, 20)

    print(machine.describe())
    print(f"{case.about}; {_number(case)} coordinates of {len(case.coordinates)} layers")
    print("devices  program  all-reduce bytes  bytes a coordinate  GFLOP a device  times devices")
    rows = []
    for number in devices:
        for program, compiled in (("update", update(case, number)), ("probe", probe(case, number))):
            exchanged = exchanged_bytes(compiled.as_text())
            gflop = operations_in(compiled) / 1e9
            each = exchanged / _number(case) if program == "probe" else math.nan
            print(
                f"{number:7}  {program:7} {exchanged:17,} {each:19.1f} {gflop:15.3f} "
                f"{gflop * number:14.3f}"
            )
            rows.append({"devices": number, "program": program, "bytes": exchanged, "gflop": gflop})
    print("\nparams in shards, of a decoder LM:")
    lines = sharded_lines((1, 2), (SMALLEST,)) if options.smoke else sharded_lines(devices)
    print("\n".join(lines))
    if not options.smoke:
        print("\n".join([*paper_lines(), *large_lines()]))
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def update(case: Case, number: int) -> Any:
    """A compiled step of SGD over `number` devices."""
    mesh = make_mesh(jax.devices()[:number])

    def on_device(params, batch):
        _, grads, _ = value_and_grad(lambda p, b: (case.loss(p, b), None), params, batch, AXIS)
        return jax.tree.map(lambda w, g: w - 0.1 * g, params, grads)

    program: Any = data_parallel(on_device, mesh, (REPLICATED, SHARDED), REPLICATED)
    return program.lower(case.params, case.batch).compile()


def probe(case: Case, number: int) -> Any:
    """A compiled probe of all layers over `number` devices."""
    devices = jax.devices()[:number]
    return (
        hgeo.make_probe(case.loss, case.coordinates, chunk_size=4, devices=devices)
        .lower(case.params, case.batch)
        .compile()
    )


def exchanged_bytes(program: str) -> int:
    """Bytes of the results of all collectives in a compiled program's text."""
    total = 0
    for line in program.splitlines():
        match = re.search(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all)\(", line)
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", match.group(1) if match else ""):
            total += BYTES[kind] * math.prod(int(n) for n in shape.split(",") if n)
    return total


def operations_in(compiled: Any) -> float:
    """Floating-point operations on a device as XLA counts them: a loop's body once."""
    return float(compiled.cost_analysis()["flops"])


def paper_lines() -> list[str]:
    """The expected time of Table 2(a): training and probes of two optimizers, eight repeats."""
    config: Any = translation.get_config("paper")
    sizes, length = (19214, 10837), config.data.max_length
    model = Seq2Seq(*sizes, pad_id=PAD, **config.model)
    piece = config.probe.microbatch_size

    def loss(params, batch):
        logits: Any = model.apply({"params": params}, batch["source"], batch["target"])
        return token_loss(logits, batch["labels"], PAD)

    def batch_of(number):
        shapes = {"source": length, "target": length - 1, "labels": length - 1}
        return {k: jax.ShapeDtypeStruct((number, n), jnp.int32) for k, n in shapes.items()}

    tokens = jnp.zeros((1, length), jnp.int32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens[:, 1:]))["params"]
    layers = hgeo.find_layers(params, model.layer_order()[:-1])
    mean = lambda p, b: loss(p, b).total / loss(p, b).weight
    updates = operations(jax.grad(mean), params, batch_of(piece)) * config.batch_size / piece
    coordinates = _coordinates(layers, config.probe.num_coordinates)
    sweeps = operations(_separate(loss, coordinates, 8), params, batch_of(piece))
    sweeps *= config.probe.batch_size / piece
    trained = 2 * 8 * config.steps * updates
    probed = 2 * 8 * len(config.probe.steps) * sweeps
    found = [
        f"Table 2(a) at paper scale: an update {updates / 1e12:.2f} TFLOP, a probe of "
        f"{config.probe.num_coordinates} coordinates of {len(layers)} layers "
        f"{sweeps / 1e12:,.0f} TFLOP; 2 optimizers x 8 repeats: training "
        f"{trained / 1e15:.0f} PFLOP, {len(config.probe.steps)} probes each "
        f"{probed / 1e15:,.0f} PFLOP"
    ]
    return found + [_expected(trained + probed, name) for name in MACHINES]


def large_lines() -> list[str]:
    """The expected time of one probe of a language model of a billion weights."""
    width, blocks, size, length, batch = 2048, 19, 32_000, 1024, 8
    model = LanguageModel(size, width, 16, 4 * width, blocks)

    def loss(params, batch):
        logits: Any = model.apply({"params": params}, batch["tokens"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return jnp.mean(losses)

    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32)))
    params = params["params"]
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    order = model.layer_order()[:-1]
    chosen = [order[k] for k in np.linspace(0, len(order) - 1, 8).astype(int)]
    layers = hgeo.find_layers(params, chosen)
    one = _separate(loss, _coordinates(layers, 200), 1)
    each = batch * operations(one, params, {"tokens": tokens, "labels": tokens})
    about = (
        f"a language model of {weights / 1e9:.2f} billion weights, 200 coordinates of "
        f"{len(layers)} layers on {batch} x {length} tokens: {each / 1e15:.1f} PFLOP"
    )
    return [about, *(_expected(each, name) for name in MACHINES)]


def _separate(loss: Any, coordinates: Any, chunk: int) -> Any:
    """A probe in which each layer's equations stand as often as they run, to be counted."""
    return lambda params, batch: evaluate_quadratic_forms(
        loss, params, batch, coordinates, chunk_size=chunk, share_segments=False
    )


def _coordinates(layers: Any, number: int) -> Any:
    return hgeo.sample_coordinates(layers, number, jax.random.key(0))


def _expected(total: float, name: str) -> str:
    peak, number = MACHINES[name]
    seconds = total / (peak * number * REACHED)
    return f"  on {name}, at {REACHED:.0%} of {peak * number / 1e12:.0f} TFLOP/s: " + (
        f"{seconds / 3600:.1f} h" if seconds > 3600 else f"{seconds:.0f} s"
    )


def _number(case: Case) -> int:
    return sum(len(chosen.indices) for chosen in case.coordinates.values())
