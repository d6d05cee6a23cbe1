"""Writes a monitor's values to its file and to TensorBoard, and passes them to the callback."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from hgeo.measure.measurement import Measured
from hgeo.records.rows import GeometryRow, entries_not_finite

if TYPE_CHECKING:
    from hgeo.measure.tensorboard import EventFiles
    from hgeo.records.geometry_csv import GeometryFile

HISTOGRAMS = ("diagonal", "preconditioned_diagonal", "gradient", "adaptive_gradient")


class MonitorOutput:
    """Writes a monitor's values, and warns of values that are not finite."""

    def __init__(
        self,
        layers: Iterable[str],
        *,
        name: str,
        repeat: int,
        steps_per_epoch: float | None,
        file: "GeometryFile | None",
        events: "EventFiles | None",
        callback: Callable[[int, dict[str, float]], None] | None,
    ):
        """Takes the layers' names in order, the rows' first columns, and the outputs."""
        self._numbers = {layer: number for number, layer in enumerate(layers, start=1)}
        self._name, self._repeat, self._steps_per_epoch = name, repeat, steps_per_epoch
        self._file, self._events, self._callback = file, events, callback

    def write(self, step: int, measured: Measured) -> dict[str, float]:
        """Writes a step; returns its values by name, as the callback gets them."""
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
    """Warns of values that are not finite, at the line of the loop that called the monitor."""
    parts = [
        f"{number} of {total} Hessian entries of {layer}"
        for _, layer, number, total in entries_not_finite(rows)
    ]
    if not np.isfinite(loss):
        parts.insert(0, f"the loss ({loss})")
    if parts:
        more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
        warnings.warn(f"step {step}: not finite: {', '.join(parts[:3])}{more}", stacklevel=4)
