"""A monitor for any training loop: the layers' curvature at every so many steps."""

import operator
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hgeo.devices import in_turn, make_mesh, place, place_batch
from hgeo.losses import Loss
from hgeo.measure.context import AtCoordinates, Context
from hgeo.measure.measurement import Measured, Measurement
from hgeo.measure.monitor_arguments import (
    check_columns,
    check_loss,
    check_optimizer,
    check_state,
    check_statistics,
    check_trainable,
    to_options,
)
from hgeo.measure.named import OF_UPDATES
from hgeo.params.checks import check_layers
from hgeo.params.coordinates import sample_coordinates
from hgeo.params.layers import Layer
from hgeo.params.static_leaves import hold, released
from hgeo.records.rows import GeometryRow, entries_not_finite
from hgeo.second_order.evaluate import check_options

PyTree = Any

HISTOGRAMS = ("diagonal", "preconditioned_diagonal", "gradient", "adaptive_gradient")


class Monitor:
    """Measures R_med and other statistics of each layer within any training loop.

        R_med = max_i |H_ii| / (median_i |H_ii| + eps),   i over `num` coordinates of a layer

    The coordinates are chosen once, and the programs compiled at the first step that is due. A step
    that is not costs a remainder, and never waits for a device. R_med of two steps can be compared
    where both were measured on one batch: give a fixed `batch`, as large as can be afforded, unless
    the noise between batches is what is looked for. A batch of another shape compiles anew.

    Args:
      loss: `loss(params, batch)` -> scalar, the mean over its examples, or `hgeo.Weighted`; or a
        pair `(outputs, head)` of functions, `outputs(params, batch)` and `head(outputs, batch)`,
        which `gauss_newton` and `fisher` need.
      layers: what `find_layers` gives.
      every: a step is due if it is a multiple of it.
      statistics: names, any of `r_med`, `r_med_spread`, `r_diag`, `r_diag_across`, `alignment`,
        `preconditioned`, `low_rank`, `gauss_newton`, `fisher`, `full`, `spectrum`.
      num: coordinates of each layer.
      key: draws them, and what else is random; `None`, `jax.random.key(0)`.
      batch: measured on at every step; `None`, each call gives its own. Arrays have the examples
        along their leading axis, and are split over the devices; arrays without axes are not.
      workdir: folder whose `geometry.csv` has a row for each step, layer and statistic; one that
        is there already is gone on with, and rows of a step done again are replaced. `None`, none.
      tensorboard: folder of event files for TensorBoard, with histograms of log10 |entry|; needs
        `pip install 'hgeo[tensorboard]'`, and no TensorFlow.
      callback: called as `callback(step, values)` with what a call returns, for Weights & Biases
        (`lambda step, values: wandb.log(values, step=step)`) or anything else.
      optimizer: of Optax, as it trains. `alignment` and `preconditioned` look at the update that it
        would make of the batch's gradient from the `optimizer_state` of a call.
      preconditioner: what `hgeo.preconditioner` takes besides that state, such as `{"b2": 0.999}`
        for Adam; `preconditioned` needs it. P is held to the updates that the optimizer makes.
        Layers without one have NaN, and a warning says once why.
      devices: those to measure on; `None`, all.
      name: stands in the column `optimizer` of `geometry.csv`; several monitors of one folder need
        different ones, or different repeats.
      repeat: stands in the column of that name.
      steps_per_epoch: makes the column `epoch`; `None`, it is NaN.
      **options: `mode`, `chunk_size`, `microbatch_size` and `precision`, as in `make_probe`; `eps`
        in R_med; `low_rank_share` (0.9), the share of ‖W‖_F² that `rank` holds; `num_matvecs` (30)
        and `num_samples` (4) of `spectrum`; `max_gradients` (20,000) of `full`.

    Raises:
      ValueError: an argument out of its range, named with the values allowed; a folder whose
        `geometry.csv` is none of ours; tensorboardX is missing.
      TypeError: layers that `find_layers` did not give, an unknown option.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.ones((3, 2))}
      >>> layers = hgeo.find_layers(params)
      >>> monitor = hgeo.Monitor(loss, layers, every=10, num=6, devices=jax.devices()[:1])
      >>> for step in range(20):
      ...     values = monitor(step, params, jnp.eye(3))
      ...     if values is not None:
      ...         print(step, values["hgeo/r_med/kernel"])
      0 1.0
      10 1.0

    Reference:
      Jiang, Malik, Li. How Does Adaptive Optimization Impact Local Neural Network Geometry? 2022.
    """

    def __init__(
        self,
        loss: Loss | tuple[Callable[..., Any], Callable[..., Any]],
        layers: Mapping[str, Layer],
        *,
        every: int = 100,
        statistics: Sequence[str] = ("r_med",),
        num: int = 200,
        key: jax.Array | None = None,
        batch: PyTree = None,
        workdir: str | os.PathLike[str] | None = None,
        tensorboard: str | os.PathLike[str] | None = None,
        callback: Callable[[int, dict[str, float]], None] | None = None,
        optimizer: Any = None,
        preconditioner: Mapping[str, Any] | None = None,
        devices: Sequence[Any] | None = None,
        name: str = "monitor",
        repeat: int = 0,
        steps_per_epoch: float | None = None,
        **options: Any,
    ):
        """Chooses the coordinates; nothing is compiled yet."""
        check_loss(loss)
        check_columns(every, name, repeat, steps_per_epoch)
        check_layers(layers)
        check_statistics(statistics)
        check_optimizer(statistics, optimizer, preconditioner)
        self._options = to_options(options)
        self._loss, self._statistics, self._every = loss, tuple(statistics), every
        self._key = jax.random.key(0) if key is None else key
        self._numbers = {name: number for number, name in enumerate(layers, start=1)}
        self._coordinates = sample_coordinates(layers, num, self._key)
        check_options(self._coordinates, self._options.mode, self._options.chunk_size, None)
        self._mesh = make_mesh(devices)
        self._batch = None if batch is None else place_batch(hold(batch, "batch"), self._mesh)
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be a function callback(step, values), not {callback!r}")
        self._callback, self._optimizer, self._constants = callback, optimizer, preconditioner
        self._name, self._repeat, self._steps_per_epoch = name, repeat, steps_per_epoch
        self._file = self._events = self._directions = None
        self._measurement: Measurement | None = None
        if workdir is not None:
            from hgeo.records.geometry_csv import GeometryFile

            self._file = GeometryFile(workdir)
        if tensorboard is not None:
            from hgeo.measure.tensorboard import EventFiles

            self._events = EventFiles(tensorboard)

    @property
    def mode(self) -> str | None:
        """The way in which it differentiates and why; `None` before the first measurement."""
        return None if self._measurement is None else self._measurement.mode

    def due(self, step: int) -> bool:
        """Whether a call at this step measures."""
        if isinstance(step, jax.Array):
            raise TypeError(
                "step must be an integer of Python or NumPy; for a jax.Array every call would have "
                "to wait for the device: count the steps in the loop"
            )
        try:
            number = operator.index(step)
        except TypeError as error:
            raise TypeError(f"step must be an integer of Python or NumPy, not {step!r}") from error
        if number < 0:
            raise ValueError(f"step must be 0 or more, not {number}")
        return number % self._every == 0

    def __call__(
        self,
        step: int,
        params: PyTree,
        batch: PyTree = None,
        *,
        optimizer_state: PyTree = None,
        gradient: PyTree = None,
        updates: PyTree = None,
    ) -> dict[str, float] | None:
        """Measures a step that is due.

        Args:
          step: how many updates have made the params.
          params: as the loss takes them, before the update of this step. Leaves that are no arrays
            (functions, strings, enums) are static; another one compiles anew.
          batch: that of this step, unless one was given for all.
          optimizer_state: before the update of this step.
          gradient: of the loop, in the place of that of the batch; a pytree such as the params.
          updates: what the optimizer made of it, as `optax.apply_updates` takes them.

        Returns:
          `{"hgeo/loss": ..., "hgeo/STATISTIC/LAYER": ...}`, Python floats; `None` for a step that
          is not due.

        Raises:
          ValueError: params or a batch that don't fit, or what a statistic needs is missing.
        """
        if not self.due(step):
            return None
        step = operator.index(step)
        self._check(batch, optimizer_state, gradient, updates)
        params = hold(params, "params")
        params = in_turn(place(params, self._mesh))  # after what the loop has in flight
        if self._batch is None:
            batch = place_batch(hold(batch, "batch"), self._mesh)
        else:
            batch = self._batch
        if self._measurement is None:
            self._measurement = self._prepare(params, batch)
        measured = self._measurement(
            params,
            batch,
            lambda: self._at_coordinates(params, batch, optimizer_state, gradient, updates),
        )
        return self._record(step, measured)

    def _check(self, batch, optimizer_state, gradient, updates):
        if (batch is None) == (self._batch is None):
            raise ValueError(
                "a batch was given both for all steps and for this one"
                if batch is not None
                else "no batch was given, neither for this step nor (batch=) for all"
            )
        if (gradient is None) != (updates is None):
            raise ValueError("gradient and updates must be given together")
        stated = self._optimizer is not None and optimizer_state is not None
        for name in OF_UPDATES:
            given = name == "alignment" and gradient is not None
            if name in self._statistics and not given and not stated:
                raise ValueError(
                    f"statistics has {name!r}, which needs optimizer_state= at each call and "
                    "optimizer= of the monitor"
                    + (", or gradient= and updates=" if name == "alignment" else "")
                )

    def _prepare(self, params, batch):
        outputs, head, loss = None, None, self._loss
        if isinstance(loss, tuple):
            outputs, head = map(released, loss)
            loss = lambda params, batch: head(outputs(params, batch), batch)
        else:
            loss = released(loss)
        for own in self._coordinates.values():  # before the loss stumbles over what is missing
            jax.eval_shape(own.layer.leaves, params)
        params, batch = jax.eval_shape(lambda *both: both, params, batch)
        context = Context(
            loss=loss,
            coordinates=self._coordinates,
            variables=params,
            batch=batch,
            mesh=self._mesh,
            key=self._key,
            options=self._options,
            outputs=outputs,
            head=head,
        )
        if self._optimizer is not None and set(OF_UPDATES) & set(self._statistics):
            from hgeo.measure.optimizer_view import OptimizerView, directions_at_coordinates

            constants = self._constants if "preconditioned" in self._statistics else None
            view = OptimizerView(self._optimizer, 1.0, constants, collection=None)
            self._directions = directions_at_coordinates(context, view)
        return Measurement(context, self._statistics)

    def _at_coordinates(self, params, batch, optimizer_state, gradient, updates):
        found: dict[str, AtCoordinates] = {}
        if self._directions is not None and optimizer_state is not None:
            check_trainable(params)
            state = place(optimizer_state, self._mesh)
            try:
                found = self._directions(params, state, batch)
            except Exception as error:  # an update of Optax raises what it stumbles over
                check_state(self._optimizer, params, state, error)
                raise
        if gradient is None:
            return found
        at = lambda own, tree: np.asarray(own.layer.ravel(tree)[own.indices])
        return {
            name: AtCoordinates(
                at(own, gradient),
                -at(own, updates),
                found[name].preconditioner if name in found else None,
            )
            for name, own in self._coordinates.items()
        }

    def _record(self, step: int, measured: Measured) -> dict[str, float]:
        epoch = float("nan") if self._steps_per_epoch is None else step / self._steps_per_epoch
        rows = [
            GeometryRow(
                optimizer=self._name,
                repeat=self._repeat,
                step=step,
                epoch=epoch,
                loss=measured.loss,
                layer_number=self._numbers[layer],
                layer=layer,
                statistic=statistic,
                value=value,
            )
            for layer, statistic, value in measured.values
        ]
        _warn(step, measured.loss, rows)
        values = {"hgeo/loss": measured.loss}
        values |= {f"hgeo/{name}/{layer}": value for layer, name, value in measured.values}
        if self._file is not None:
            self._file.replace(rows)
        if jax.process_index() > 0:
            return values
        if self._events is not None:
            named = ((name.rpartition("/"), array) for name, array in measured.arrays.items())
            arrays = {f"hgeo/{k}/{layer}": a for (layer, _, k), a in named if k in HISTOGRAMS}
            self._events.write(step, values, arrays)
        if self._callback is not None:
            self._callback(step, values)
        return values


def _warn(step: int, loss: float, rows: Sequence[GeometryRow]) -> None:
    """One warning of all that is not finite."""
    found = [
        f"{number} of {of} Hessian entries of {layer}"
        for _, layer, number, of in entries_not_finite(rows)
    ]
    if not np.isfinite(loss):
        found.insert(0, f"the loss ({loss})")
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        warnings.warn(f"step {step}: not finite: {', '.join(found[:3])}{more}", stacklevel=4)
