"""The machine and the libraries of a measurement."""

import importlib.metadata
import os
import platform

import jax

PACKAGES = ("jax", "jaxlib", "flax", "torch", "curvlinops-for-pytorch")


def describe() -> str:
    """One line: processor, threads, accelerator, versions."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0].device_kind
    return (
        f"{_processor()}, {os.cpu_count()} threads, JAX on {device}; "
        f"Python {platform.python_version()}, {', '.join(found)}"
    )


def load() -> str:
    """The machine's load averages; above its number of threads, other processes compute on it."""
    return "load " + ", ".join(f"{load:.1f}" for load in os.getloadavg())


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
