"""From the start of a process to the first table of R_med: the translation model, all its layers.

Each start is a process of its own: without the persistent compilation cache, with an empty one,
with the one that the start before has filled, and without a cache where layers share no segments.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

PHASES = ("python", "import", "weights", "trace", "compile", "run")
# By name: whether the cache is used, and whether the layers share segments.
STARTS = {
    "no cache": (False, "auto"),
    "empty cache": (True, "auto"),
    "filled cache": (True, "auto"),
    "layers apart": (False, False),
}
CODE = "from experiments.benchmarks import cold; cold.one_start({began!r}, {sizes!r}, {share!r})"


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark cold", description=__doc__)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--coordinates", type=int, default=50, help="of each layer")
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args(arguments)
    sizes = ("cpu", options.batch_size, options.coordinates)
    starts = list(STARTS)
    if options.smoke:
        sizes, starts = ("smoke", 2, 3), starts[1:3]

    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for start in starts:
            cached, share = STARTS[start]
            rows.append({"start": start, **_start(sizes, cache if cached else "", share)})
    print(rows[0].pop("about"))
    for row in rows[1:]:
        row.pop("about")
    print(f"{'seconds':14}" + "".join(f"{phase:>9}" for phase in (*PHASES, "all")))
    for row in rows:
        row["all"] = sum(row[phase] for phase in PHASES)
        line = "".join(f"{row[phase]:9.1f}" for phase in (*PHASES, "all"))
        print(f"{row['start']:14}{line}   (trace + compile) / run {_ratio(row):.2f}")
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _start(sizes: tuple[str, int, int], cache: str, share: bool | str) -> dict:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    code = CODE.format(began=time.time(), sizes=sizes, share=share)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def _ratio(row: dict) -> float:
    return (row["trace"] + row["compile"]) / row["run"]


def one_start(began: float, sizes: tuple[str, int, int], share: Any) -> None:
    """Runs in the started process; prints the seconds of each phase as JSON."""
    marks = [began, time.time()]

    import jax
    import numpy as np

    import hgeo
    from experiments.benchmarks import machine
    from experiments.benchmarks.cases import translation_model
    from hgeo.second_order.evaluate import evaluate_quadratic_forms

    marks.append(time.time())
    case = translation_model(*sizes)
    probe = jax.jit(
        lambda p, b: evaluate_quadratic_forms(
            case.loss, p, b, case.coordinates, share_segments=share
        )[0]
    )
    jax.block_until_ready(case.params)
    marks.append(time.time())
    traced = probe.lower(case.params, case.batch)
    marks.append(time.time())
    compiled = traced.compile()
    marks.append(time.time())
    r_med = hgeo.r_med(jax.device_get(compiled(case.params, case.batch)))
    assert all(np.isfinite(value) for value in r_med.values()), r_med
    marks.append(time.time())
    seconds = dict(zip(PHASES, np.diff(marks).tolist(), strict=True))
    about = f"{machine.describe()}\n{case.about}; {sizes[2]} coordinates of {len(r_med)} layers"
    print(json.dumps({"about": about, **seconds}))
