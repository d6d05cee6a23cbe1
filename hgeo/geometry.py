"""Geometry: what is recorded of each layer's curvature at a probed step."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.losses import as_weighted, mean_over_devices, over_devices
from hgeo.parallel import AXIS, REPLICATED, SHARDED, data_parallel, place
from hgeo.probes.coordinates import sample_coordinates
from hgeo.probes.layers import find_layers
from hgeo.probes.microbatches import sum_over_microbatches
from hgeo.probes.probe import make_probe
from hgeo.statistics import r_med
from hgeo.workloads.workload import Workload

PyTree = Any


class GeometryProbe:
    """Measures the loss and each layer's Hessian diagonal on one fixed batch of a workload.

    Layers, coordinates and batch depend on the config alone: they are the same for every
    optimizer, repeat and step, so that what is compared is paired.

    Attributes:
      notes: what a person should be told about the choice of coordinates.
    """

    def __init__(
        self, config: Config, workload: Workload, variables: PyTree, key: jax.Array, mesh: Mesh
    ):
        """Chooses layers, coordinates and batch, and prepares the compiled probe."""
        probe = config.probe
        paths = dict(enumerate(workload.layer_paths, start=1))
        names = [paths[number] for number in probe.layers]
        layers = find_layers(variables, {name: f"params/{name}" for name in names})
        self._numbers = dict(zip(layers, probe.layers, strict=True))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            coordinates = sample_coordinates(layers, probe.num_coordinates, key)
        self.notes = [str(warning.message) for warning in caught]

        # A list seed, so that it differs from those of the epochs' orders (schedule.py).
        order = np.random.default_rng([config.seed, 0xBA7C]).permutation(workload.num_examples)
        rows = np.sort(order[: probe.batch_size])
        batch = {name: array[rows] for name, array in workload.examples.items()}
        self._batch = place(batch, mesh, SHARDED)

        def mean_loss(variables, batch):
            variables = over_devices(variables, AXIS)
            part = lambda piece, n: as_weighted(workload.loss, variables, piece, n)
            sums = sum_over_microbatches(part, batch, probe.microbatch_size)
            return mean_over_devices(sums, AXIS)

        self._loss = data_parallel(mean_loss, mesh, (REPLICATED, SHARDED), REPLICATED)
        chunk_size = probe.chunk_size  # a number from the command line comes as text
        try:
            self._diagonal = make_probe(
                workload.loss,
                coordinates,
                mode=probe.mode,
                chunk_size=int(chunk_size) if str(chunk_size).isdigit() else chunk_size,
                microbatch_size=probe.microbatch_size,
                precision=probe.precision,
                devices=list(mesh.devices.flat),
            )
        except ValueError as error:
            raise InputError(f"probe: {error}") from error

    @property
    def mode(self) -> str | None:
        """The way in which it differentiates and why; `None` before it has been called."""
        mode, reason = self._diagonal.mode, self._diagonal.reason
        return None if mode is None else f"{mode} ({reason})"

    def lower(self, variables: PyTree) -> Any:
        """The probe's program, as `jax.jit(...).lower` gives it."""
        return self._diagonal.lower(variables, self._batch)

    def __call__(self, variables: PyTree) -> tuple[float, list[tuple[int, str, str, float]]]:
        """The batch's loss, and (layer number, layer, statistic, value) for every layer."""
        loss = float(self._loss(variables, self._batch))
        diagonal = self._diagonal(variables, self._batch)
        rows = []
        for layer, entries in diagonal.items():
            for statistic, value in summarise(np.asarray(entries)).items():
                rows.append((self._numbers[layer], layer, statistic, value))
        return loss, rows


def summarise(entries: np.ndarray) -> dict[str, float]:
    """The recorded statistics of one layer's sampled diagonal."""
    magnitude = np.abs(entries)
    return {
        "r_med": float(r_med(jnp.asarray(entries))),
        "max_abs": float(magnitude.max()),
        "median_abs": float(np.median(magnitude)),
        "num_entries": entries.size,
        "num_zero": int((entries == 0).sum()),
        "num_nonfinite": int((~np.isfinite(entries)).sum()),
    }
