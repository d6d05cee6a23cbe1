"""What a config will need, read from its compiled programs before it is launched.

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
from hgeo.experiment.plan import make_plans
from hgeo.experiment.setup import initial_state, make_updates, set_up
from hgeo.experiment.tuning import with_tuned_rates
from hgeo.experiment.validation import check_config
from hgeo.optimizers import label
from hgeo.training.timeline import Schedule
from hgeo.workloads.registry import make_workload

_STEPS = flags.DEFINE_integer("steps", 2, "Updates to run; 0, none, and no probe.", lower_bound=0)


def footprint(config: Config, steps: int) -> None:
    """Prints what the updates and the probe of a config need."""
    config = with_tuned_rates(config)
    check_config(config)
    setup = set_up(config, make_workload(config))
    sizes = [leaf.size for leaf in jax.tree.leaves(setup.variables["params"])]
    print(f"parameters: {sum(sizes):,} in {len(sizes)} arrays; devices: {jax.device_count()}")
    rows = Schedule(
        steps=config.steps,
        measured_steps=(),
        checkpoint_every=0,
        batch_size=config.batch_size,
        num_examples=setup.workload.num_examples,
        seed=config.seed,
        repeat=0,
    ).rows(0, 1)[0]
    for plan in make_plans(config):
        state = initial_state(config, setup, plan)
        rate = np.float32(plan.rate)
        update = make_updates(config, setup, plan).alone
        compiled = update.lower(state, setup.examples, rows, rate).compile()
        _say(f"an update of {label(plan.name)}", compiled)
        for _ in range(steps):
            began = time.perf_counter()
            state, told = compiled(state, setup.examples, rows, rate)
            print(f"  loss {float(told.loss):.4f} in {time.perf_counter() - began:.2f} s")
    compiled = setup.probe.lower(setup.variables).compile()
    _say(f"a probe of {len(config.probe.layers)} layers", compiled)
    if steps:
        began = time.perf_counter()
        setup.probe.sampled(setup.variables)
        seconds = time.perf_counter() - began
        print(f"  {seconds:.2f} s, compilation included; {setup.probe.mode}")


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
