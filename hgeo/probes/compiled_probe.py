"""A compiled probe over all devices, for those who would rather not compose one."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from hgeo.devices import AXIS, OverBatch, make_mesh
from hgeo.losses import Loss
from hgeo.params.coordinates import Coordinates
from hgeo.params.static_leaves import hold, released
from hgeo.second_order.evaluate import check_options, evaluate_quadratic_forms
from hgeo.second_order.modes import ModeChoice

PyTree = Any


class Probe:
    """A jitted `probe(params, batch)` that gives the sampled diagonal; see `make_probe`.

    Attributes:
      mode: the mode it takes, a str without shape; `None` before its first call.
      reason: why; `None` before its first call.

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
    ):
        """Takes what `make_probe` takes; nothing is traced yet."""
        self._loss, self._coordinates = released(loss), OrderedDict(coordinates)
        self._options = options
        self._choice: ModeChoice | None = None
        self._over_batch = OverBatch(self._on_device, make_mesh(devices))

    @property
    def mode(self) -> str | None:
        """The mode it takes."""
        return None if self._choice is None else self._choice.mode

    @property
    def reason(self) -> str | None:
        """Why it takes that mode."""
        return None if self._choice is None else self._choice.reason

    def __call__(self, params: PyTree, batch: PyTree) -> "OrderedDict[str, jax.Array]":
        """The entries by layer name, each of shape `(K,)`."""
        entries = self._over_batch(*self._arguments(params, batch))
        return OrderedDict((name, entries[name]) for name in self._coordinates)

    def lower(self, params: PyTree, batch: PyTree) -> Any:
        """Its program for such arguments, as `jax.jit(...).lower` gives it."""
        arguments = self._arguments(params, batch)
        return self._over_batch.program(arguments).lower(*arguments)

    def _arguments(self, params, batch):
        return hold(params, "params"), self._coordinates, hold(batch, "batch")

    def _on_device(self, params, coordinates, batch):
        entries, self._choice = evaluate_quadratic_forms(
            self._loss, params, batch, coordinates, axis_name=AXIS, **self._options
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
) -> Probe:
    """A compiled probe of the Hessian diagonal, run over all given devices.

        H_ii = ∂²L/∂w_i²,   L = Σ_d total_d / Σ_d weight_d over the devices' shares of the batch

    Arrays of the batch are split over the devices along their leading axis; arrays without axes
    (a dropout key, a temperature) and the params go whole to each. The loss is a device's own, and
    may name the axis `"data"` in collectives (synchronised BatchNorm). No buffer is donated.

    Args:
      loss: `loss(params, batch)` -> scalar, the mean over its examples, or `hgeo.Weighted`.
      coordinates: what `sample_coordinates` gives, indices of shape `(K,)`, or any part of it.
      mode: as in `sampled_diagonal`.
      chunk_size: the same.
      memory_budget: the same, on each device.
      microbatch_size: examples computed together on each device; `None`, all that it has.
      precision: as in `sampled_diagonal`.
      devices: those to run on; `None`, all.

    Returns:
      A `Probe`, called as `probe(params, batch)`; it gives an `OrderedDict` of arrays of shape
      `(K,)` by layer name, in the order of `coordinates`, and states its `mode` and `reason`.

    Raises:
      ValueError: as `sampled_diagonal`; and, when called, a batch that does not divide over
        the devices.

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
    check_options(coordinates, mode, chunk_size, memory_budget)
    options = {
        "mode": mode,
        "chunk_size": chunk_size,
        "memory_budget": memory_budget,
        "microbatch_size": microbatch_size,
        "precision": precision,
    }
    return Probe(loss, coordinates, devices, options)
