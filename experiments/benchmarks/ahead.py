"""A decoder LM of a billion weights in shards, compiled for TPUs that are not there.

Its gradient and a probe of a few coordinates of a few layers are compiled for 8 and 64 chips (FSDP
x tensor parallelism, float32) by libtpu; nothing runs. Per chip: the bytes of arguments and
temporaries as the compiler allots them, against the chip's memory, and of collectives.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from experiments.benchmarks.sharded import (
    AXES,
    KINDS,
    Size,
    bytes_by_kind,
    gradient_on,
    probe_on,
)

INSTALL = "pip install 'jax[tpu]'"
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chips:
    """Chips of one kind.

    Attributes:
      topology: libtpu's name.
      shape: of the mesh, along `AXES`.
      memory: bytes of one chip, as its maker states them.
    """

    topology: str
    shape: tuple[int, int, int]
    memory: int = 16 * GIB


SETS = (Chips("v5e:2x4", (1, 4, 2)), Chips("v5e:8x8", (1, 32, 2)))
BILLION = Size("billion", width=2048, blocks=20)
SMALLEST = Size("smallest", width=128, blocks=1)
LAYERS, EXAMPLES = 4, 64


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark from its command line."""
    parser = argparse.ArgumentParser(prog="experiments.benchmark ahead", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny model on 8 chips")
    options = parser.parse_args(arguments)
    size = SMALLEST if options.smoke else BILLION
    for chips in SETS[:1] if options.smoke else SETS:
        mesh = mesh_of(chips)
        for name, compile_on in (("gradient", gradient_on), ("probe", _probe)):
            start = time.perf_counter()
            compiled = compile_on(size, "both", mesh, examples=EXAMPLES)
            print(line_of(name, chips, mesh, compiled, time.perf_counter() - start), flush=True)


def mesh_of(chips: Chips) -> Mesh:
    """A mesh of the topology's chips.

    Raises:
      SystemExit: libtpu is absent or does not know the topology; it says what to install.
    """
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=chips.topology)
    except Exception as error:  # JAX and libtpu raise several kinds
        raise SystemExit(
            f"the topology {chips.topology} needs libtpu ({INSTALL}): {error}"
        ) from error
    return Mesh(np.asarray(found.devices).reshape(chips.shape), AXES)


def line_of(name: str, chips: Chips, mesh: Mesh, compiled: Any, seconds: float) -> str:
    """What one compiled program takes of a chip."""
    memory = compiled.memory_analysis()
    given, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    share = (given + temporaries + memory.output_size_in_bytes) / chips.memory
    sent, _ = bytes_by_kind(compiled.as_text())
    return (
        f"{name:8} {chips.topology} ({mesh.size} chips): arguments {given / GIB:.3f} GiB, "
        f"temporaries {temporaries / GIB:.3f} GiB, {share:.1%} of {chips.memory / GIB:.0f} GiB; "
        + ", ".join(f"{kind} {sent[kind] / 1e6:.1f} MB" for kind in KINDS if sent[kind])
        + f"; compiled in {seconds:.0f} s"
    )


def _probe(size: Size, layout: str, mesh: Mesh, examples: int) -> Any:
    def some(layers):
        names = [list(layers)[k] for k in np.linspace(0, len(layers) - 1, LAYERS).astype(int)]
        return {name: layers[name] for name in names}

    return probe_on(size, layout, mesh, examples=examples, choose=some)
