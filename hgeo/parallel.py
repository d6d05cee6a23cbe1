"""Devices: the one place where a per-device function becomes one program over all of them.

Functions are written as under `pmap`: they see their device's share of the batch and name the
axis (`AXIS`) in collectives. Here they are wrapped by `jax.shard_map`, which `pmap` itself has
become; the same functions run under `jax.pmap(function, axis_name=AXIS)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PyTree = Any

AXIS = "data"
REPLICATED = PartitionSpec()
SHARDED = PartitionSpec(AXIS)


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis, `AXIS`, over the given devices, by default all."""
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def data_parallel(
    function: Callable[..., Any],
    mesh: Mesh,
    in_specs: Any,
    out_specs: Any,
    donate_argnums: Sequence[int] = (),
) -> Callable[..., Any]:
    """Compiles a per-device function to run on every device of `mesh` at once.

    Args:
      function: what one device does; the named axis is `AXIS`.
      mesh: from `make_mesh`.
      in_specs: for each argument `REPLICATED`, or a `PartitionSpec` naming the axis to split.
      out_specs: the same for the outputs.
      donate_argnums: arguments whose buffers may be used again for the outputs.
    """
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    return jax.jit(mapped, donate_argnums=tuple(donate_argnums))


def in_turn(result: PyTree) -> PyTree:
    """`result`, on CPU devices once it is there.

    These share one pool of threads, in which programs in flight together can wait for each other's
    collectives for ever; XLA then aborts the process.
    """
    several_on_cpu = jax.device_count() > 1 and jax.default_backend() == "cpu"
    return jax.block_until_ready(result) if several_on_cpu else result


def check_divides(name: str, number: int, mesh: Mesh) -> None:
    """Raises a ValueError unless `number` examples split evenly over the devices of `mesh`."""
    if number % mesh.size:
        raise ValueError(f"{name} must be a multiple of the {mesh.size} devices, but is {number}")


def place(tree: PyTree, mesh: Mesh, spec: PartitionSpec = REPLICATED) -> PyTree:
    """Puts a pytree of arrays on the devices of `mesh`, whole on each or split by `spec`."""
    return jax.device_put(tree, NamedSharding(mesh, spec))
