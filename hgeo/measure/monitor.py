"""A monitor for any training loop: measures the layers' curvature every N steps."""

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from hgeo.devices import in_turn
from hgeo.losses import Loss
from hgeo.measure.loop_measurement import LoopMeasurement
from hgeo.measure.monitor_arguments import (
    check_batch,
    check_columns,
    check_loss,
    check_optimizer,
    check_statistics,
    check_update,
    to_options,
)
from hgeo.measure.monitor_output import MonitorOutput
from hgeo.measure.monitor_placement import MonitorPlacement
from hgeo.params.checks import check_layers
from hgeo.params.coordinates import sample_coordinates
from hgeo.params.layers import Layer
from hgeo.params.static_leaves import hold
from hgeo.second_order.evaluate import check_options
from hgeo.sharding import BatchSpec, check_no_devices

PyTree = Any


class Monitor:
    """Measures R_med and other statistics of each layer within any training loop.

        R_med = max_i |H_ii| / (median_i |H_ii| + eps),   i over `num` coordinates of a layer

    The monitor draws the coordinates once, and compiles at the first due step. A step that is not
    due costs one remainder and does not wait for a device. Compare R_med of two steps only if both
    are measured on the same batch. So give a fixed `batch`, as large as the time allows, unless you
    study the noise between batches. A batch of another shape is compiled again.

    Args:
      loss: `loss(params, batch)` -> scalar, the mean over its examples, or `hgeo.Weighted`; or a
        pair `(outputs, head)` of functions, `outputs(params, batch)` and `head(outputs, batch)`,
        which `gauss_newton` and `fisher` need.
      layers: what `find_layers` gives.
      every: a step is due if it is a multiple of `every`.
      statistics: names, any of `r_med`, `r_med_spread`, `r_diag`, `r_diag_across`, `alignment`,
        `preconditioned`, `low_rank`, `gauss_newton`, `fisher`, `full`, `spectrum`,
        `preconditioned_spectrum`.
      num: the number of coordinates of each layer.
      key: random key of the coordinates and of random statistics; `None`: `jax.random.key(0)`.
      batch: the batch of every measurement; `None`: each call gives a batch. Arrays have the
        examples along their leading axis and are split over the devices; scalars are replicated.
      workdir: folder whose `geometry.csv` gets a row for each step, layer and statistic. An
        existing file is continued; rows of a repeated step are replaced. `None`: no file.
      tensorboard: folder of event files for TensorBoard, with histograms of log10 |entry|; needs
        `pip install 'hgeo[tensorboard]'`, and no TensorFlow.
      callback: called as `callback(step, values)` with the values that a call returns, for example
        for Weights & Biases (`lambda step, values: wandb.log(values, step=step)`).
      optimizer: the Optax optimizer of the loop. `alignment`, `preconditioned` and
        `preconditioned_spectrum` compute its update from the batch's gradient and the
        `optimizer_state` of a call.
      preconditioner: arguments of `hgeo.preconditioner` besides the state, such as `{"b2": 0.999}`
        for Adam; `preconditioned` and `preconditioned_spectrum` need it. hgeo compares P with the
        optimizer's updates. A layer without P has NaN, and hgeo warns once of the reason.
      devices: those to measure on, for params that are not sharded; `None`: all devices.
      mesh: as in `make_probe`, like `batch_spec` and `coordinate_axis`. Sharded params stay where
        they are, and so do the batch, gradients and the optimizer's state.
      name: value of the column `optimizer` in `geometry.csv`; monitors that share a folder need
        different names or repeats.
      repeat: value of the column `repeat`.
      steps_per_epoch: gives the column `epoch`; `None`: the column is NaN.
      **options: `mode`, `chunk_size`, `remat`, `microbatch_size` and `precision`, as in
        `make_probe`; `eps` in R_med; `low_rank_share` (0.9), the share of ‖W‖_F² that `rank` holds;
        `num_matvecs` (30) and `num_samples` (4) of the spectra; `max_gradients` (20,000) of `full`.

    Raises:
      ValueError: an argument out of its range; a folder whose `geometry.csv` has another header or
        a damaged line; tensorboardX is not installed.
      TypeError: layers that are not from `find_layers`, an unknown option.

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
        mesh: Mesh | None = None,
        batch_spec: BatchSpec = None,
        coordinate_axis: str | None = None,
        name: str = "monitor",
        repeat: int = 0,
        steps_per_epoch: float | None = None,
        **options: Any,
    ):
        """Draws the coordinates; compiles nothing."""
        check_loss(loss)
        check_columns(every, name, repeat, steps_per_epoch)
        check_layers(layers)
        check_statistics(statistics)
        check_optimizer(statistics, optimizer, preconditioner)
        measured_options = to_options(options)
        key = jax.random.key(0) if key is None else key
        coordinates = sample_coordinates(layers, num, key)
        check_options(coordinates, measured_options.mode, measured_options.chunk_size, None)
        if mesh is not None:
            check_no_devices(devices)
        self._place = MonitorPlacement(devices, mesh, batch_spec, coordinate_axis)
        self._batch = None if batch is None else self._place.fix(hold(batch, "batch"))
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be a function callback(step, values), not {callback!r}")
        self._every, self._statistics = every, tuple(statistics)
        self._has_optimizer = optimizer is not None
        self._measure = LoopMeasurement(
            loss,
            coordinates,
            statistics,
            key=key,
            options=measured_options,
            optimizer=optimizer,
            constants=preconditioner,
        )
        file = events = None
        if workdir is not None:
            from hgeo.records.geometry_csv import GeometryFile

            file = GeometryFile(workdir)
        if tensorboard is not None:
            from hgeo.measure.tensorboard import EventFiles

            events = EventFiles(tensorboard)
        self._output = MonitorOutput(
            layers,
            name=name,
            repeat=repeat,
            steps_per_epoch=steps_per_epoch,
            file=file,
            events=events,
            callback=callback,
        )

    @property
    def mode(self) -> str | None:
        """The mode of differentiation and why; `None` before the first measurement."""
        return self._measure.mode

    def due(self, step: int) -> bool:
        """Whether a call at this step measures."""
        if isinstance(step, jax.Array):
            raise TypeError(
                "step must be an integer of Python or NumPy; for a jax.Array every call would have "
                "to wait for the device: count the steps in Python"
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
        """Measures a step if it is due.

        Args:
          step: the number of updates before this step.
          params: the loss's params before the update of this step. Leaves that are not arrays
            (functions, strings, enums) are static; a changed static leaf compiles again.
          batch: the batch of this step, unless the monitor has a fixed batch.
          optimizer_state: the state before the update of this step.
          gradient: the loop's gradient, a pytree of the params' structure; replaces the gradient of
            the batch.
          updates: the optimizer's updates for `gradient`, as `optax.apply_updates` takes them.

        Returns:
          `{"hgeo/loss": ..., "hgeo/STATISTIC/LAYER": ...}`, Python floats; `None` for a step that
          is not due.

        Raises:
          ValueError: params or a batch that don't fit, or an argument that a statistic needs is
            missing.
        """
        if not self.due(step):
            return None
        step = operator.index(step)
        check_batch(self._batch, batch)
        check_update(
            self._statistics, self._has_optimizer, optimizer_state is not None, gradient, updates
        )
        given = hold(batch, "batch") if self._batch is None else self._batch
        params, batch, where = self._place(hold(params, "params"), given)
        more = {"optimizer_state": optimizer_state, "gradient": gradient, "updates": updates}
        params = in_turn(params)  # waits for the loop's programs on CPU devices
        measured = self._measure(params, batch, where, **more)
        return self._output.write(step, measured)
