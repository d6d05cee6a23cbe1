"""Evaluation: a workload's metrics on held-out examples."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from hgeo.devices import AXIS, REPLICATED, data_parallel, place
from hgeo.losses import Weighted
from hgeo.workloads.workload import Workload

PyTree = Any


class Evaluation:
    """Measures the metrics of all held-out examples, each counted once, over all devices."""

    def __init__(self, batch_size: int, workload: Workload, mesh: Mesh):
        """Puts the held-out examples on the devices, in pieces of `batch_size`.

        The last piece is padded with the first example at weight 0.
        """
        self._scores = workload.scores
        if not workload.held_out:
            return
        count = len(next(iter(workload.held_out.values())))
        shape = -(-count // batch_size), batch_size
        indices = np.arange(math.prod(shape)).reshape(shape)
        counted = (indices < count).astype(np.float32)
        indices = np.where(indices < count, indices, 0)
        split = PartitionSpec(None, AXIS)
        batches = {name: array[indices] for name, array in workload.held_out.items()}
        self._batches = place((batches, counted), mesh, split)

        def on_device(variables, batches):
            def sums(piece):
                batch, counted_B = piece
                metrics = workload.metrics(variables, batch)
                return jax.tree.map(lambda values_B: jnp.vdot(values_B, counted_B), metrics)

            totals = jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.lax.map(sums, batches))
            totals = jax.lax.psum(totals, AXIS)
            is_weighted = lambda node: isinstance(node, Weighted)
            return jax.tree.map(lambda part: part.total / part.weight, totals, is_leaf=is_weighted)

        self._metrics = data_parallel(on_device, mesh, (REPLICATED, split), REPLICATED)

    def __call__(self, variables: PyTree) -> dict[str, float]:
        """The metrics' means by name, and the workload's scores."""
        means = {
            name: float(value) for name, value in self._metrics(variables, self._batches).items()
        }
        return means | self._scores(variables)
