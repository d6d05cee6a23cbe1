"""Finds accelerators that the machine has and JAX does not use."""

import os
from pathlib import Path

import jax

# What the kernel shows of a device, its name, and the extra whose JAX knows it.
DEVICE_FILES = (
    ("dev/nvidia[0-9]*", "an NVIDIA GPU", "cuda"),
    ("dev/accel[0-9]*", "a TPU", "tpu"),
)


def unused_accelerator(root: Path = Path("/")) -> str | None:
    """A line on how to use an accelerator that this machine has while JAX runs on its CPU.

    Args:
      root: of the file system that is searched.

    Returns:
      The line; `None` where JAX has an accelerator, JAX_PLATFORMS=cpu asks for the CPU, or the
      machine has no accelerator.
    """
    if jax.default_backend() != "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
        return None
    for pattern, name, extra in DEVICE_FILES:
        found = sorted(root.glob(pattern))
        if found:
            return (
                f"JAX runs on the CPU, but this machine has {name} ({found[0]}): "
                f"pip install -U 'hgeo[{extra}]' lets JAX use it; JAX_PLATFORMS=cpu ends this note"
            )
    return None
