"""Devices: the one place where a per-device function becomes one program over all of them.

Functions are written as under `pmap`: they see their device's share of the batch and name the
axis (`AXIS`) in collectives. Here they are wrapped by `jax.shard_map`, which `pmap` itself has
become; the same functions run under `jax.pmap(function, axis_name=AXIS)`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

PyTree = Any

AXIS = "data"
RUNS = "runs"
REPLICATED = PartitionSpec()
SHARDED = PartitionSpec(AXIS)

# XLA's search for the best of Triton's matrix products, one by one, made a probe of one layer
# compile for 26 s in the place of 3.6 on an H200, and run for 3 ms in the place of 4.
PROBES_ON_GPU = {"xla_gpu_enable_triton_gemm": False}


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis, `AXIS`, over the given devices, by default all."""
    if devices is not None and (
        not isinstance(devices, Sequence)
        or not devices
        or not all(isinstance(device, jax.Device) for device in devices)
    ):
        raise TypeError(
            f"devices must be a list of devices such as jax.devices()[:1], or None, not {devices!r}"
        )
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def with_runs(mesh: Mesh, number: int) -> Mesh:
    """The same devices on two axes: `number` along `RUNS`, the rest of them along `AXIS`."""
    shape = (number, mesh.size // number)
    devices = list(mesh.devices.flat)
    return jax.make_mesh(shape, (RUNS, AXIS), axis_types=(AxisType.Auto,) * 2, devices=devices)


def data_parallel(
    function: Callable[..., Any],
    mesh: Mesh,
    in_specs: Any,
    out_specs: Any,
    donate_argnums: Sequence[int] = (),
    compiler_options: dict[str, Any] | None = None,
) -> Callable[..., Any]:
    """Compiles a per-device function to run on every device of `mesh` at once.

    Args:
      function: what one device does; the named axis is `AXIS`.
      mesh: from `make_mesh`.
      in_specs: for each argument `REPLICATED`, or a `PartitionSpec` naming the axis to split.
      out_specs: the same for the outputs.
      donate_argnums: arguments whose buffers may be used again for the outputs.
      compiler_options: XLA's, for this program alone.
    """
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    return jax.jit(mapped, donate_argnums=tuple(donate_argnums), compiler_options=compiler_options)


class OverBatch:
    """A function of a batch, compiled to run on every device with its share of the batch.

    Arrays of the batch are split over the devices along their leading axis; arrays without axes (a
    dropout key, a temperature) and all other arguments go whole to each. There is one program for
    each structure of the batch.
    """

    def __init__(self, function: Callable[..., Any], mesh: Mesh):
        """Takes what one device does, with the batch as its last argument."""
        self._function, self._mesh = function, mesh
        self._compiled: dict[Any, Any] = {}

    def __call__(self, *arguments: PyTree) -> Any:
        """The function's outputs, the same on all devices."""
        return self.program(arguments)(*arguments)

    def program(self, arguments: Sequence[PyTree]) -> Any:
        """The jitted function for arguments such as these.

        Raises:
          ValueError: the batch does not divide over the devices.
        """
        specs = batch_specs(arguments[-1], self._mesh)
        leaves, treedef = jax.tree.flatten(specs)
        options = compiler_options(self._mesh, arguments)
        key = (len(arguments), treedef, tuple(leaves), options is None)
        if key not in self._compiled:
            in_specs = (*[REPLICATED] * (len(arguments) - 1), specs)
            self._compiled[key] = data_parallel(
                self._function,
                self._mesh,
                in_specs,
                REPLICATED,
                compiler_options=options,
            )
        return self._compiled[key]


def compiler_options(mesh: Mesh, arguments: Sequence[PyTree]) -> dict[str, Any] | None:
    """XLA's options for a probe on the devices of `mesh`; `None`, those of whoever compiles it.

    JAX takes them for a whole program alone, not for a part of one that is being traced.
    """
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))
    on_gpu = mesh.devices.flat[0].platform == "gpu"
    return PROBES_ON_GPU if on_gpu and not traced else None


def batch_specs(batch: PyTree, mesh: Mesh) -> PyTree:
    """For each array of a batch `SHARDED`, or `REPLICATED` where it has no axes.

    Raises:
      ValueError: the batch does not divide over the devices.
    """

    def of(leaf):
        if not jnp.ndim(leaf):
            return REPLICATED
        check_divides("the batch's number of examples", jnp.shape(leaf)[0], mesh)
        return SHARDED

    return jax.tree.map(of, batch)


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


def place_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """Puts a batch on the devices of `mesh` as `OverBatch` takes it."""
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), batch_specs(batch, mesh))
    return jax.device_put(batch, shardings)


def automatic_axes(array: Any) -> tuple[AbstractMesh | None, tuple[str, ...]]:
    """The mesh on which a traced array lies, and those of its axes that XLA divides arrays over."""
    mesh = jax.typeof(array).sharding.mesh
    names = tuple(name for name in mesh.auto_axes if mesh.shape[name] > 1)
    return (mesh, names) if names else (None, ())


def shares_of(array: Any) -> int:
    """Over how many devices XLA may divide what is computed of a traced array."""
    mesh, names = automatic_axes(array)
    return math.prod(mesh.shape[name] for name in names) if mesh else 1


def pin(array: Any, names: tuple[str, ...]) -> Any:
    """A traced array split along its leading axis over some mesh axes, and no others.

    XLA carries what is asked of a value back to what it is made of; it stops at what is pinned.
    """
    mesh = jax.typeof(array).sharding.mesh
    if array.shape[0] % math.prod(mesh.shape[name] for name in names):
        return array
    spec = [names, *[PartitionSpec.UNCONSTRAINED] * (array.ndim - 1)]
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec(*spec)))


def spread(array: Any, axis: int = 0) -> Any:
    """A traced array split along one axis over all devices on which it lies, if it divides.

    Left to itself, XLA repeats on every device what follows from a sum over them.
    """
    mesh, names = automatic_axes(array)
    if mesh is None or array.shape[axis] % shares_of(array):
        return array
    spec = [PartitionSpec.UNCONSTRAINED] * array.ndim
    spec[axis] = names
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec(*spec)))
