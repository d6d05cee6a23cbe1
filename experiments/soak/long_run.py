"""The memory of the process and the number of compiled programs along one long run."""

import io
import pathlib
import re
from typing import Any

import jax
from rich.console import Console

from configs import quickstart
from hgeo.experiment.run_experiment import run_experiment

COMPILED = "/jax/core/compile/backend_compile_duration"
PAGE_KIB = 4


class _Watch(io.StringIO):
    """Reads a run's output; samples memory and programs at each of its probes."""

    def __init__(self):
        super().__init__()
        self.programs, self.samples = 0, []

    def compiled(self, event: str, *_, **__) -> None:
        self.programs += event == COMPILED

    def write(self, text: str) -> int:
        for step in re.findall(r"step (\d+) of \d+: loss", text):
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            self.samples.append((int(step), pages * PAGE_KIB / 1024, self.programs))
        return super().write(text)


def long_run(workdir: pathlib.Path, steps: int, probes: int) -> dict[str, Any]:
    """Trains the quickstart's smoke model for `steps`, with `probes` probes on the way.

    Returns:
      Resident memory in MiB and compiled programs at a fifth of the run, in its middle and at its
      end, and the slope of the memory over the last four fifths.
    """
    config: Any = quickstart.get_config("smoke")
    config.steps = steps
    config.optimizers, config.compare = ("adam",), ()
    config.probe.steps = tuple(steps * k // probes for k in range(1, probes + 1))
    config.lock()
    watch = _Watch()
    jax.monitoring.register_event_duration_secs_listener(watch.compiled)
    run_experiment(config, str(workdir), Console(file=watch, width=300))
    samples = watch.samples
    chosen = {"fifth": len(samples) // 5, "half": len(samples) // 2, "end": len(samples) - 1}
    at = {name: samples[k] for name, k in chosen.items()}
    first, last = at["fifth"], at["end"]
    return {
        "steps": steps,
        "probes": len(samples),
        "memory_mib": {name: round(mib, 1) for name, (_, mib, _) in at.items()},
        "programs": {name: programs for name, (_, _, programs) in at.items()},
        "mib_per_1000_steps": round(1000 * (last[1] - first[1]) / (last[0] - first[0]), 3),
    }
