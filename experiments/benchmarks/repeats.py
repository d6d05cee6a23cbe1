"""Time of an update of several repeats in one vmapped program, against one after another."""

import argparse
import csv
import importlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import machine
from experiments.benchmarks.timing import measure
from hgeo.experiment.resolve import resolve
from hgeo.experiment.shared_resources import build_resources, initial_state, make_updates

ADAM = "adam"


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark repeats", description=__doc__)
    parser.add_argument("--data_dir", help="folder of the workloads' data")
    parser.add_argument("--workloads", nargs="+", default=["lm", "translation"])
    parser.add_argument("--repeats", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--updates", type=int, default=3, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    scale = "cpu"
    if options.smoke:
        options.workloads, options.repeats = ["quickstart"], [2]
        options.rounds, options.updates, scale = 1, 1, "smoke"

    print(machine.describe())
    print(
        f"ms of an update of one repeat; Adam; medians of {options.rounds} interleaved rounds; "
        f"{machine.load()} at the start"
    )
    print("workload          repeats  one by one   together  one by one / together")
    rows = [row for name in options.workloads for row in of_workload(name, scale, options)]
    print(f"{machine.load()} at the end")
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "machine"])
            writer.writeheader()
            writer.writerows(row | {"machine": machine.describe()} for row in rows)


def of_workload(name: str, scale: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures and prints one workload."""
    config: Any = importlib.import_module(f"configs.{name}").get_config(scale)
    if options.data_dir:
        config.data_dir = options.data_dir
    resources = build_resources(resolve(config))
    (plan,) = [plan for plan in resources.resolved.plans if plan.name == ADAM]
    updates = make_updates(resources, plan)
    rows = []
    for number in options.repeats:
        orders = np.stack(
            [
                np.random.default_rng(k).permutation(resources.workload.num_examples)
                for k in range(number)
            ]
        )[:, : config.batch_size].astype(np.int32)
        states = {
            "together": updates.pack([initial_state(resources, plan) for _ in range(number)]),
            **{str(k): initial_state(resources, plan) for k in range(number)},
        }

        def together(states=states, orders=orders, number=number):
            for _ in range(options.updates):
                states["together"], info = updates(
                    states["together"], resources.examples, orders, [plan.rate] * number
                )
            return jax.block_until_ready(info.loss)

        def alone(states=states, orders=orders, number=number):
            losses = []
            for k in range(number):
                for _ in range(options.updates):
                    states[str(k)], info = updates(
                        states[str(k)], resources.examples, orders[k : k + 1], [plan.rate]
                    )
                losses.append(info.loss)
            return jax.block_until_ready(losses)

        calls = {"one by one": alone, "together": together}
        first = {way: np.asarray(call()).ravel() for way, call in calls.items()}
        np.testing.assert_allclose(first["together"], first["one by one"], rtol=1e-3)
        timings = measure(calls, options.rounds)
        per = 1e3 / options.updates / number
        one, many = (timings[way].median * per for way in calls)
        print(f"{name:16} {number:8} {one:11.1f} {many:10.1f} {one / many:12.2f}")
        rows.append(
            {
                "workload": name,
                "repeats": number,
                "one_by_one_ms": one,
                "together_ms": many,
                "ratio": one / many,
            }
        )
    return rows
