"""Updates: one step of training, of one run or of several as one vmapped program."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from hgeo.devices import AXIS, REPLICATED, RUNS, SHARDED, data_parallel, place, with_runs
from hgeo.losses import mean_over_devices, to_weighted, value_and_grad
from hgeo.training.contractions import with_single_contractions
from hgeo.training.finite import first_not_finite
from hgeo.workloads.workload import Workload

PyTree = Any
OptimizerOf = Callable[[Any], optax.GradientTransformation]

# Of a device's memory; the rest is for what is measured besides.
SHARE_OF_MEMORY = 0.8


class TrainState(NamedTuple):
    """All that a run needs to continue, besides its config."""

    variables: PyTree
    optimizer: optax.OptState
    step: jax.Array


class UpdateInfo(NamedTuple):
    """What an update returns besides the new state.

    Attributes:
      loss: before it.
      not_finite: `hgeo.training.finite.first_not_finite` of its gradient and of the new state.
    """

    loss: jax.Array
    not_finite: jax.Array


def update_on_device(
    workload: Workload, optimizer_of: OptimizerOf, key: jax.Array
) -> Callable[[TrainState, PyTree, jax.Array, Any], tuple[TrainState, UpdateInfo]]:
    """One update as a device does it.

    `update(state, examples, indices, rate) -> (state, UpdateInfo)`, with `indices` the device's
    share of the batch, which it gathers from the examples, and `optimizer_of(rate)` the optimizer.
    """

    def update(state: TrainState, examples, indices, rate):
        optimizer = optax.with_extra_args_support(optimizer_of(rate))
        batch = jax.tree.map(lambda array: array[indices], examples)
        if workload.dropout:
            # By the place in the whole batch, so that no mask depends on the number of devices.
            places = jax.lax.axis_index(AXIS) * indices.size + jnp.arange(indices.size)
            of_update = jax.random.fold_in(key, state.step)
            of_examples = jax.vmap(jax.random.fold_in, (None, 0))(of_update, places)
            batch = {**batch, "dropout_key": of_examples}
        params = state.variables["params"]
        loss_of = lambda params, batch: workload.training_loss(
            {**state.variables, "params": params}, batch
        )
        gradient = with_single_contractions(lambda p, b: value_and_grad(loss_of, p, b, AXIS))
        loss, grads, collections = gradient(params, batch)
        # Some of Optax's optimizers need it (Sophia's estimate of the curvature).
        mean_loss = lambda params: mean_over_devices(to_weighted(loss_of(params, batch)[0]), AXIS)
        more = {"value": loss, "grad": grads, "value_fn": mean_loss, "obj_fn": mean_loss}
        updates, opt_state = optimizer.update(grads, state.optimizer, params, **more)
        variables = {**collections, "params": optax.apply_updates(params, updates)}
        info = UpdateInfo(loss, first_not_finite(grads, opt_state, variables))
        return TrainState(variables, opt_state, state.step + 1), info

    return update


class Updates:
    """Compiled updates over all devices; the states' buffers are donated.

    A run alone is one program. Several at one step are another: states, indices and learning rates
    stacked along a leading axis, which is vmapped and, where both numbers have a common divisor,
    sharded over the devices, so that each device has fewer runs and larger parts of their batches.

    No loop of updates is compiled: on a CPU, XLA's gradients of convolutions are some forty times
    slower inside one.
    """

    def __init__(self, workload: Workload, optimizer_of: OptimizerOf, key: jax.Array, mesh: Mesh):
        """Takes what `update_on_device` takes, and the devices."""
        self._on_device, self._mesh = update_on_device(workload, optimizer_of, key), mesh
        specs = (REPLICATED, REPLICATED, SHARDED, REPLICATED)
        self.alone = data_parallel(self._on_device, mesh, specs, REPLICATED, donate_argnums=(0,))
        self._together: dict[int, Any] = {}
        self._examples: dict[int, PyTree] = {}

    def __call__(
        self, packed: TrainState, examples: PyTree, indices: np.ndarray, rates: Sequence[float]
    ) -> tuple[TrainState, UpdateInfo]:
        """One update of the runs in `packed`, with its `UpdateInfo` for each of them.

        Args:
          packed: from `pack`.
          examples: the training examples, on the devices.
          indices: of each run's batch: int32, (runs, batch size).
          rates: the runs' learning rates.
        """
        if len(rates) == 1:
            return self.alone(packed, examples, indices[0], np.float32(rates[0]))
        number = len(rates)
        rates_of_runs = np.asarray(rates, np.float32)
        examples = self._placed(examples, number)
        return self._program(number)(packed, examples, indices, rates_of_runs)

    def pack(self, states: Sequence[TrainState]) -> TrainState:
        """The states of one step as one."""
        if len(states) == 1:
            return states[0]
        stacked = jax.tree.map(lambda *leaves: np.stack(jax.device_get(leaves)), *states)
        return place(stacked, self._mesh_of(len(states)), PartitionSpec(RUNS))

    def unpack(self, packed: TrainState, number: int) -> list[TrainState]:
        """Each run's state."""
        if number == 1:
            return [packed]
        whole = jax.device_get(packed)
        of_run = lambda k: jax.tree.map(lambda leaf: leaf[k], whole)
        return [place(of_run(k), self._mesh) for k in range(number)]

    def fits(
        self, like: TrainState, examples: PyTree, batch_size: int, number: int
    ) -> tuple[bool, str]:
        """Whether the program of several runs fits each device's memory, and the two numbers."""
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((number, *jnp.shape(leaf)), leaf.dtype), like
        )
        indices = jax.ShapeDtypeStruct((number, batch_size), jnp.int32)
        rates = jax.ShapeDtypeStruct((number,), jnp.float32)
        placed = self._placed(examples, number)
        compiled = self._program(number).lower(shapes, placed, indices, rates).compile()
        self._together[number] = compiled
        memory = compiled.memory_analysis()
        needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        available = SHARE_OF_MEMORY * _memory(self._mesh.devices.flat[0]) / _sharing(self._mesh)
        gib = lambda size: f"{size / 2**30:.2f} GiB"
        return needed <= available, f"{gib(needed)} on each device, of {gib(available)}"

    def _placed(self, examples: PyTree, number: int) -> PyTree:
        """The examples on the devices as several runs' program has them."""
        if number not in self._examples:
            self._examples[number] = place(examples, self._mesh_of(number))
        return self._examples[number]

    def _mesh_of(self, number: int) -> Mesh:
        return with_runs(self._mesh, math.gcd(number, self._mesh.size))

    def _program(self, number: int):
        if number not in self._together:
            runs = PartitionSpec(RUNS)
            self._together[number] = data_parallel(
                jax.vmap(self._on_device, in_axes=(0, None, 0, 0)),
                self._mesh_of(number),
                (runs, REPLICATED, PartitionSpec(RUNS, AXIS), runs),
                runs,
                donate_argnums=(0,),
            )
        return self._together[number]


def _memory(device: Any) -> float:
    """Bytes of a device's memory."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _sharing(mesh: Mesh) -> int:
    """How many devices share one memory: all devices of a CPU."""
    return mesh.size if mesh.devices.flat[0].platform == "cpu" else 1
