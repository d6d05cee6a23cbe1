"""The measurement of a training loop's iterates, compiled at the first iterate."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hgeo.devices import place
from hgeo.losses import Loss
from hgeo.measure.context import AtCoordinates, Context, ProbeOptions, entries_at
from hgeo.measure.measurement import Measured, Measurement
from hgeo.measure.monitor_arguments import as_own_state, check_trainable
from hgeo.measure.named import OF_PRECONDITIONER, OF_UPDATES
from hgeo.params.coordinates import Coordinates
from hgeo.params.static_leaves import released
from hgeo.sharding import BatchSpec, place_whole

PyTree = Any


class Where(NamedTuple):
    """Where an iterate is measured: fields of `Context`."""

    mesh: Mesh
    axis_name: str | None
    batch_spec: BatchSpec = None
    coordinate_axis: str | None = None


class LoopMeasurement:
    """Measures the statistics of a monitor."""

    def __init__(
        self,
        loss: Loss | tuple[Callable[..., Any], Callable[..., Any]],
        coordinates: "OrderedDict[str, Coordinates]",
        statistics: Sequence[str],
        *,
        key: jax.Array,
        options: ProbeOptions,
        optimizer: Any,
        constants: Mapping[str, Any] | None,
    ):
        """Takes the arguments of a monitor; compiles nothing."""
        self._loss, self._coordinates, self._statistics = loss, coordinates, tuple(statistics)
        self._key, self._options = key, options
        self._optimizer, self._constants = optimizer, constants
        self._measurement: Measurement | None = None
        self._where: Where | None = None
        self._view: Any = None
        self._entries_at: Callable[..., Any] = entries_at

    @property
    def mode(self) -> str | None:
        """The mode of differentiation and why; `None` before the first measurement."""
        return None if self._measurement is None else self._measurement.mode

    def __call__(
        self,
        params: PyTree,
        batch: PyTree,
        where: Where,
        *,
        optimizer_state: PyTree,
        gradient: PyTree,
        updates: PyTree,
    ) -> Measured:
        """Measures an iterate on the devices; other arguments as in `Monitor.__call__`."""
        if self._measurement is None or where != self._where:
            self._where = where
            self._measurement = self._prepare(params, batch, where)
        directions = lambda: self._at_coordinates(
            params, batch, where, optimizer_state, gradient, updates
        )
        spectra = lambda: self._of_optimizer(
            self._view.preconditioned_spectra, params, batch, where, optimizer_state
        )
        return self._measurement(params, batch, directions, spectra)

    def _prepare(self, params, batch, where):
        outputs, head, loss = None, None, self._loss
        if isinstance(loss, tuple):
            outputs, head = map(released, loss)
            loss = lambda params, batch: head(outputs(params, batch), batch)
        else:
            loss = released(loss)
        for chosen in self._coordinates.values():  # its error names the layer; the loss's would not
            jax.eval_shape(chosen.layer.leaves, params)
        params, batch = jax.eval_shape(lambda *both: both, params, batch)
        if where.axis_name is None:
            whole = NamedSharding(where.mesh, PartitionSpec())
            self._entries_at = jax.jit(entries_at, out_shardings=whole)
        else:
            self._entries_at = entries_at
        context = Context(
            loss=loss,
            coordinates=self._coordinates,
            variables=params,
            batch=batch,
            **where._asdict(),
            key=self._key,
            options=self._options,
            outputs=outputs,
            head=head,
        )
        if self._optimizer is not None and set(OF_UPDATES) & set(self._statistics):
            from hgeo.measure.optimizer_view import CompiledView, OptimizerView

            needs_it = set(OF_PRECONDITIONER) & set(self._statistics)
            constants = self._constants if needs_it else None
            view = OptimizerView(self._optimizer, 1.0, constants, collection=None)
            self._view = CompiledView(context, view)
        return Measurement(context, self._statistics)

    def _of_optimizer(self, call, params, batch, where, optimizer_state):
        """Calls a method of the view with the state on the devices."""
        check_trainable(params)
        place_state = place_whole if where.axis_name is None else place
        state = place_state(optimizer_state, where.mesh)
        try:
            return call(params, state, batch)
        except Exception as error:  # with a wrong state Optax may raise any error
            return call(params, as_own_state(self._optimizer, params, state, error), batch)

    def _at_coordinates(self, params, batch, where, optimizer_state, gradient, updates):
        directions: dict[str, AtCoordinates] = {}
        if self._view is not None and optimizer_state is not None:
            at = (params, batch, where, optimizer_state)
            directions = self._of_optimizer(self._view.at_coordinates, *at)
        if gradient is None:
            return directions
        gradients = self._entries_of(gradient)
        return {
            name: AtCoordinates(
                gradients[name],
                -update,
                directions[name].preconditioner if name in directions else None,
            )
            for name, update in self._entries_of(updates).items()
        }

    def _entries_of(self, tree):
        """The entries at the coordinates of a gradient or update with the params' sharding."""
        return jax.tree.map(np.asarray, self._entries_at(tree, self._coordinates))
