"""Places a monitor's params and batch: replicated over devices, or on the params' mesh."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from hgeo.devices import AXIS, batch_specs, make_mesh, place, place_batch
from hgeo.measure.loop_measurement import Where
from hgeo.sharding import (
    BatchSpec,
    check_no_devices,
    check_split_options,
    lies_in_shards,
    mesh_of_params,
    place_batch_on,
    place_whole,
)

PyTree = Any


class MonitorPlacement:
    """Puts a monitor's params and batches on the devices that measure them."""

    def __init__(
        self,
        devices: Sequence[Any] | None,
        mesh: Mesh | None,
        batch_spec: BatchSpec,
        coordinate_axis: str | None,
    ):
        """Takes arguments of `Monitor`."""
        self._devices, self._given_mesh = devices, mesh
        self._options = {"batch_spec": batch_spec, "coordinate_axis": coordinate_axis}
        self._mesh = make_mesh(devices)
        self._fixed: PyTree = None
        self._placed: dict[Mesh | None, PyTree] = {}

    def fix(self, batch: PyTree) -> PyTree:
        """Takes a batch for all steps, which is placed once. A loader may reuse its own arrays.

        Raises:
          ValueError: its number of examples is no multiple of the number of devices.
        """
        batch = jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, batch)
        self._fixed, batch_spec = batch, self._options["batch_spec"]
        if self._given_mesh is not None:
            self._on_mesh(batch, self._given_mesh)
        elif batch_spec is None and not lies_in_shards(batch):
            batch_specs(batch, self._mesh)
        return batch

    def __call__(self, params: PyTree, batch: PyTree) -> tuple[PyTree, PyTree, Where]:
        """Params and batch on their devices, and where they are.

        Raises:
          ValueError: the batch's number of examples is no multiple of the number of devices, or it
            lies on other devices than the params.
        """
        mesh = mesh_of_params(params, self._given_mesh, self._mesh)
        if mesh is None:
            check_split_options(**self._options)
            where = Where(self._mesh, AXIS)
            return place(params, self._mesh), self._on_mesh(batch, None), where
        check_no_devices(self._devices)
        where = Where(mesh, None, **self._options)
        return place_whole(params, mesh), self._on_mesh(batch, mesh), where

    def _on_mesh(self, batch: PyTree, mesh: Mesh | None) -> PyTree:
        """The batch on the mesh of sharded params, or split over devices for replicated params."""
        if batch is self._fixed and mesh in self._placed:
            return self._placed[mesh]
        if mesh is None:
            placed = place_batch(batch, self._mesh)
        else:
            placed = place_batch_on(batch, mesh, self._options["batch_spec"])
        if batch is self._fixed:
            self._placed[mesh] = placed
        return placed
