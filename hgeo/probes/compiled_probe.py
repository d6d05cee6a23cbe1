"""`make_probe`: the sampled diagonal as a compiled function over all devices."""

import functools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from hgeo.devices import AXIS, OverBatch, make_mesh
from hgeo.losses import Loss
from hgeo.params.coordinates import Coordinates
from hgeo.params.static_leaves import hold, released
from hgeo.second_order.evaluate import check_options, evaluate_quadratic_forms
from hgeo.second_order.modes import ModeChoice
from hgeo.sharding import (
    BatchSpec,
    OverMesh,
    batch_axes_of,
    check_no_devices,
    check_split_options,
    mesh_of_params,
)

PyTree = Any


class Probe:
    """A jitted `probe(params, batch)` that returns the sampled diagonal; see `make_probe`.

    Attributes:
      mode: the mode that it takes, a scalar str; `None` before the first call.
      reason: why it takes that mode; `None` before the first call.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch @ params) ** 2)
      >>> params = jnp.ones((3, 2))
      >>> layers = hgeo.find_layers(params, lambda path, leaf: True)
      >>> coordinates = hgeo.sample_coordinates(layers, 6, jax.random.key(0))
      >>> probe = hgeo.make_probe(loss, coordinates, devices=jax.devices()[:1])
      >>> entries = probe(params, jnp.eye(3))
      >>> probe.mode, probe.reason
      ('adjoint_weighted', 'every equation on the way is covered')
    """

    def __init__(
        self,
        loss: Loss,
        coordinates: Mapping[str, Coordinates],
        devices: Sequence[Any] | None,
        options: Mapping[str, Any],
        mesh: Mesh | None = None,
        batch_spec: BatchSpec = None,
    ):
        """Takes the arguments of `make_probe`; traces nothing."""
        self._loss, self._coordinates = released(loss), OrderedDict(coordinates)
        self._options = options
        self._choice: ModeChoice | None = None
        self._mesh, self._batch_spec, self._devices = mesh, batch_spec, devices
        self._replicating = make_mesh(devices)
        self._over_batch = OverBatch(self._on_device, self._replicating)
        self._over_mesh = functools.cache(
            lambda mesh, batch_axes: OverMesh(
                functools.partial(self._of_whole_arrays, batch_axes), mesh, batch_spec
            )
        )

    @property
    def mode(self) -> str | None:
        """The mode that it takes."""
        return None if self._choice is None else self._choice.mode

    @property
    def reason(self) -> str | None:
        """Why it takes that mode."""
        return None if self._choice is None else self._choice.reason

    def __call__(self, params: PyTree, batch: PyTree) -> "OrderedDict[str, jax.Array]":
        """The entries by layer name, each of shape `(K,)`."""
        arguments = self._arguments(params, batch)
        over_mesh = self._where_params_lie(params, batch)
        entries = over_mesh(*arguments) if over_mesh else self._over_batch(*arguments)
        return OrderedDict((name, entries[name]) for name in self._coordinates)

    def lower(self, params: PyTree, batch: PyTree) -> Any:
        """Lowers the program for these arguments, as `jax.jit(...).lower` does."""
        arguments = self._arguments(params, batch)
        over_mesh = self._where_params_lie(params, batch)
        if over_mesh:
            return over_mesh.lower(*arguments)
        return self._over_batch.program(arguments).lower(*arguments)

    def _where_params_lie(self, params, batch) -> OverMesh | None:
        """The program over the params' mesh; `None` if params are not sharded."""
        mesh = mesh_of_params(params, self._mesh, self._replicating)
        if mesh is None:
            check_split_options(self._options.get("coordinate_axis"), self._batch_spec)
            return None
        check_no_devices(self._devices)
        return self._over_mesh(mesh, batch_axes_of(batch, self._batch_spec))

    def _arguments(self, params, batch):
        return hold(params, "params"), self._coordinates, hold(batch, "batch")

    def _on_device(self, params, coordinates, batch):
        return self._evaluate(params, coordinates, batch, AXIS)

    def _of_whole_arrays(self, batch_axes, params, coordinates, batch):
        return self._evaluate(params, coordinates, batch, None, batch_axes)

    def _evaluate(self, params, coordinates, batch, axis_name, batch_axes=None):
        entries, self._choice = evaluate_quadratic_forms(
            self._loss,
            params,
            batch,
            coordinates,
            axis_name=axis_name,
            batch_axes=batch_axes,
            **self._options,
        )
        return entries


def make_probe(
    loss: Loss,
    coordinates: Mapping[str, Coordinates],
    *,
    mode: str = "auto",
    chunk_size: int | str = "auto",
    memory_budget: int | None = None,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    devices: Sequence[Any] | None = None,
    mesh: Mesh | None = None,
    batch_spec: BatchSpec = None,
    coordinate_axis: str | None = None,
    remat: str = "auto",
) -> Probe:
    """Compiles a probe of the Hessian diagonal that runs over several devices.

        H_ii = ∂²L/∂w_i²,   L = Σ_d total_d / Σ_d weight_d over the devices' shares of the batch

    If an array of the params is sharded by a `NamedSharding`, params and batch stay on their mesh.
    The loss then sees global arrays, and the program gathers no more than a forward pass does.

    Otherwise each array of the batch is split over the devices along its leading axis. Scalars of
    the batch (a dropout key, a temperature) and the params are replicated. The loss sees one
    device's share, and may use the axis `"data"` in collectives (synchronised BatchNorm). No buffer
    is donated.

    Args:
      loss: `loss(params, batch)` -> scalar, the mean over its examples, or `hgeo.Weighted`.
      coordinates: what `sample_coordinates` gives, indices of shape `(K,)`, or any part of it.
      mode: as in `sampled_diagonal`.
      chunk_size: the same.
      memory_budget: the same, on each device.
      microbatch_size: examples computed together on each device, or for sharded params on all
        devices; `None`: the whole batch.
      precision: as in `sampled_diagonal`.
      devices: those to run on, for params that are not sharded; `None`: all devices.
      mesh: the mesh to run on; params that lie on no mesh are replicated over it. `None`: the mesh
        of the sharded params, if there is one.
      batch_spec: how to split arrays of the batch that lie on no mesh along their leading axis, if
        params lie on a mesh: the name of a mesh axis, several names, or a `PartitionSpec`. `None`:
        they are not split; each device computes the whole batch, and hgeo warns of it.
      coordinate_axis: a mesh axis over which coordinates are split, as in `sampled_diagonal`.
      remat: as in `sampled_diagonal`.

    Returns:
      A `Probe`, called as `probe(params, batch)`. It returns an `OrderedDict` of arrays of shape
      `(K,)` by layer name, in the order of `coordinates`. Its `mode` and `reason` are the chosen
      mode and why.

    Raises:
      ValueError: as `sampled_diagonal`; `mesh` and `devices` are both given. A call raises it for a
        batch that does not divide over the devices, or that lies on other devices than the params.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.ones((3, 2))}
      >>> coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 6, jax.random.key(0))
      >>> probe = hgeo.make_probe(loss, coordinates, devices=jax.devices()[:1])
      >>> probe(params, jnp.eye(3))["kernel"].shape
      (6,)

    Reference:
      Jiang, Malik, Li. How Does Adaptive Optimization Impact Local Neural Network Geometry? 2022.
    """
    check_options(coordinates, mode, chunk_size, memory_budget, remat)
    options = {
        "mode": mode,
        "chunk_size": chunk_size,
        "memory_budget": memory_budget,
        "microbatch_size": microbatch_size,
        "precision": precision,
        "coordinate_axis": coordinate_axis,
        "remat": remat,
    }
    if mesh is not None:
        check_no_devices(devices)
    return Probe(loss, coordinates, devices, options, mesh, batch_spec)
