"""The operations and memory that a config needs, read from its compiled programs.

    python -m hgeo.footprint --config=configs/NAME.py[:SCALE] [--steps=2]

Compiles one update of each optimizer and one probe, and prints parameters, floating-point
operations and memory of each as XLA counts them; then runs the update `--steps` times and the probe
once, and prints the time. XLA counts what stands in a loop once: of a probe, one chunk of
coordinates of one microbatch a layer.
"""

import time
from typing import Any

import jax
import numpy as np
from absl import app, flags

from hgeo.command_line import CONFIG, fail, parse_flags
from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.experiment.resolve import resolve
from hgeo.experiment.run_timeline import run_timeline
from hgeo.experiment.shared_resources import build_resources, initial_state, make_updates
from hgeo.optimizers import label

_STEPS = flags.DEFINE_integer("steps", 2, "Updates to run; 0, none, and no probe.", lower_bound=0)


def footprint(config: Config, steps: int) -> None:
    """Prints what the updates and the probe of a config need."""
    resources = build_resources(resolve(config))
    resolved = resources.resolved
    sizes = [leaf.size for leaf in jax.tree.leaves(resources.variables["params"])]
    print(f"parameters: {sum(sizes):,} in {len(sizes)} arrays; devices: {jax.device_count()}")
    for plan in resolved.plans:
        indices = run_timeline(resolved, plan, repeat=0).batches(0, 1)[0]
        state = initial_state(resources, plan)
        rate = np.float32(plan.rate)
        update = make_updates(resources, plan).alone
        compiled = update.lower(state, resources.examples, indices, rate).compile()
        _say(f"an update of {label(plan.name)}", compiled)
        for _ in range(steps):
            began = time.perf_counter()
            state, info = compiled(state, resources.examples, indices, rate)
            print(f"  loss {float(info.loss):.4f} in {time.perf_counter() - began:.2f} s")
    compiled = resources.probe.lower(resources.variables).compile()
    _say(f"a probe of {len(resolved.probe.layers)} layers", compiled)
    if steps:
        began = time.perf_counter()
        resources.probe.sampled(resources.variables)
        seconds = time.perf_counter() - began
        print(f"  {seconds:.2f} s, compilation included; {resources.probe.mode}")


def _say(what: str, compiled: Any) -> None:
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    gib = lambda number: f"{number / 2**30:.2f} GiB"
    print(
        f"{what}: {costs['flops'] / 1e9:,.1f} GFLOP, {gib(memory.argument_size_in_bytes)} of "
        f"arguments, {gib(memory.temp_size_in_bytes)} of temporaries on each device"
    )


def main(_: list[str]) -> int:
    """Prints the footprint of the config on the command line; returns the exit code."""
    try:
        footprint(CONFIG.value, _STEPS.value)
    except InputError as error:
        return fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
