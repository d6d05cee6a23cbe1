"""Where a monitor measures: params whole on every device, or in shards where they lie."""

from collections.abc import Sequence
from typing import Any

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
    """Puts params and batches of a monitor where they are measured."""

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
        """Takes a batch for all steps, which is placed once.

        Raises:
          ValueError: it does not divide over the devices.
        """
        self._fixed, batch_spec = batch, self._options["batch_spec"]
        if self._given_mesh is not None:
            self._on_mesh(batch, self._given_mesh)
        elif batch_spec is None and not lies_in_shards(batch):
            batch_specs(batch, self._mesh)
        return batch

    def __call__(self, params: PyTree, batch: PyTree) -> tuple[PyTree, PyTree, Where]:
        """Params and batch on their devices, and where they are.

        Raises:
          ValueError: the batch does not divide over the devices, or lies on others.
        """
        mesh = mesh_of_params(params, self._given_mesh)
        if mesh is None:
            check_split_options(**self._options)
            where = Where(self._mesh, AXIS)
            return place(params, self._mesh), self._on_mesh(batch, None), where
        check_no_devices(self._devices)
        where = Where(mesh, None, **self._options)
        return place_whole(params, mesh), self._on_mesh(batch, mesh), where

    def _on_mesh(self, batch: PyTree, mesh: Mesh | None) -> PyTree:
        """The batch beside params in shards on a mesh, or split beside whole ones."""
        if batch is self._fixed and mesh in self._placed:
            return self._placed[mesh]
        if mesh is None:
            placed = place_batch(batch, self._mesh)
        else:
            placed = place_batch_on(batch, mesh, self._options["batch_spec"])
        if batch is self._fixed:
            self._placed[mesh] = placed
        return placed
