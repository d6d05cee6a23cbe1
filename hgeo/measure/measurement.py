"""The measurement of an iterate: its loss and its layers' statistics on a batch."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hgeo.batching import sum_over_microbatches
from hgeo.losses import as_weighted, mean_over_devices, over_devices
from hgeo.measure.context import AtCoordinates, Context, Probed
from hgeo.measure.named import STATISTICS
from hgeo.probes.spectrum import Spectrum
from hgeo.second_order.explicit_axes import in_automatic_axes

PyTree = Any


class Measured(NamedTuple):
    """The measured values of an iterate.

    Attributes:
      loss: the loss of the batch.
      values: (layer, statistic, value), the layers in order.
      arrays: the arrays that the statistics summarise, by `layer/name`.
    """

    loss: float
    values: list[tuple[str, str, float]]
    arrays: dict[str, np.ndarray]


class Measurement:
    """Measures the loss and named statistics, each compiled once."""

    def __init__(self, context: Context, statistics: Sequence[str]):
        """Prepares the programs, from shapes alone.

        Raises:
          ValueError: a statistic or an option that does not fit the loss or the layers.
        """
        size, axis_name = context.options.microbatch_size, context.axis_name
        self._diagonal = context.probe(context.loss, context.options.mode)

        @in_automatic_axes
        def mean_loss(loss, variables, batch):
            variables = over_devices(variables, axis_name)
            part = lambda piece, n: as_weighted(loss, variables, piece, n)
            return mean_over_devices(sum_over_microbatches(part, batch, size), axis_name)

        self._loss = context.compiled(functools.partial(mean_loss, context.loss))
        self._statistics = [STATISTICS[name](context) for name in statistics]

    @property
    def mode(self) -> str | None:
        """The mode of differentiation and why; `None` before the first measurement."""
        mode, reason = self._diagonal.mode, self._diagonal.reason
        return None if mode is None else f"{mode} ({reason})"

    def lower(self, variables: PyTree, batch: PyTree) -> Any:
        """Lowers the sampled diagonal's program, as `jax.jit(...).lower` does."""
        return self._diagonal.lower(variables, batch)

    def loss(self, variables: PyTree, batch: PyTree) -> float:
        """The loss of the batch."""
        return float(self._loss(variables, batch))

    def sampled(self, variables: PyTree, batch: PyTree) -> dict[str, np.ndarray]:
        """The sampled diagonal of each layer."""
        diagonal = self._diagonal(variables, batch)
        return {name: np.asarray(entries) for name, entries in diagonal.items()}

    def __call__(
        self,
        variables: PyTree,
        batch: PyTree,
        directions: Callable[[], Mapping[str, AtCoordinates]],
        preconditioned_spectra: Callable[[], Mapping[str, Spectrum]],
        sampled: Callable[[], Mapping[str, np.ndarray]] | None = None,
    ) -> Measured:
        """Measures an iterate.

        Args:
          variables: the model's variables.
          batch: on the devices.
          directions: returns gradient, adaptive gradient and preconditioner by layer; called only
            if a statistic needs them.
          preconditioned_spectra: returns the spectrum of P^(-1/2) H P^(-1/2) by layer; the same.
          sampled: returns the sampled diagonal by layer, where it is known; `None`: it is measured.
        """
        loss = self.loss(variables, batch)
        sampled = sampled or (lambda: self.sampled(variables, batch))
        probed = Probed(
            variables,
            batch,
            functools.cache(sampled),
            functools.cache(directions),
            preconditioned_spectra,
        )
        values, arrays = [], {}
        for statistic in self._statistics:
            for layer, by_name in statistic(probed).items():
                for name, value in by_name.items():
                    if np.ndim(value):
                        arrays[f"{layer}/{name}"] = np.asarray(value)
                    else:
                        values.append((layer, name, float(value)))
        return Measured(loss, values, arrays)
