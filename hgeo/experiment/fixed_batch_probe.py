"""The probe of an experiment: each layer's curvature on one fixed batch."""

import functools
import warnings
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from hgeo.devices import place_batch
from hgeo.errors import InputError
from hgeo.experiment.resolved import ProbeSettings
from hgeo.measure.context import AtCoordinates, Context
from hgeo.measure.measurement import Measurement
from hgeo.measure.optimizer_view import CompiledView, OptimizerView
from hgeo.params.coordinates import sample_coordinates
from hgeo.params.layers import find_layers
from hgeo.params.leaf_paths import LeafSlice, LeafSpec, leaves_by_path
from hgeo.records.layer_numbers import ALL
from hgeo.training.checkpoints import digest
from hgeo.workloads.workload import Workload

PyTree = Any


class GeometryProbe:
    """Measures the loss and each layer's Hessian diagonal on one fixed batch of a workload.

    Layers, coordinates and batch depend on the settings alone. They are the same for every
    optimizer, repeat and step, so that comparisons are paired.

    Attributes:
      notes: warnings about the choice of coordinates.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        workload: Workload,
        variables: PyTree,
        key: jax.Array,
        mesh: Mesh,
    ):
        """Chooses layers, coordinates and batch, and prepares the compiled probe.

        Args:
          settings: what is probed.
          workload: model, data and loss.
          variables: the model's variables, of which shapes are used.
          key: for the coordinates and every other random choice.
          mesh: the devices.

        Raises:
          InputError: statistics that don't fit the loss or the layers.
        """
        chosen = [_layer(number, workload, variables) for number in settings.layers]
        layers = find_layers(variables, dict(chosen))
        self._numbers = dict(zip(layers, settings.layers, strict=True))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            coordinates = sample_coordinates(layers, settings.num_coordinates, key)
        self.notes = [str(warning.message) for warning in caught]

        # A list as the seed differs from the seeds of the epochs' orders (timeline.py).
        order = np.random.default_rng([settings.seed, 0xBA7C]).permutation(workload.num_examples)
        of_batch = np.sort(order[: settings.batch_size])
        examples = {name: array[of_batch] for name, array in workload.examples.items()}
        self._batch = place_batch(examples, mesh)
        self._context = Context(
            loss=workload.loss,
            coordinates=coordinates,
            variables=variables,
            batch=self._batch,
            mesh=mesh,
            key=key,
            options=settings.options,
            outputs=workload.outputs,
            head=workload.head,
        )
        try:
            self._measure = Measurement(self._context, settings.statistics)
        except ValueError as error:
            raise InputError(f"probe: {error}") from error
        self._compiled = functools.cache(functools.partial(CompiledView, self._context))
        self._diagonals: dict[str, dict[str, np.ndarray]] = {}

    @property
    def mode(self) -> str | None:
        """The mode of differentiation and its reason; `None` before the first call."""
        return self._measure.mode

    def lower(self, variables: PyTree) -> Any:
        """The sampled diagonal's program, as `jax.jit(...).lower` gives it."""
        return self._measure.lower(variables, self._batch)

    def loss(self, variables: PyTree) -> float:
        """The loss of the batch."""
        return self._measure.loss(variables, self._batch)

    def sampled(self, variables: PyTree) -> dict[str, np.ndarray]:
        """The sampled diagonal of each layer."""
        return self._measure.sampled(variables, self._batch)

    def directions(
        self, variables: PyTree, state: PyTree, view: OptimizerView
    ) -> dict[str, AtCoordinates]:
        """The optimizer's update for the batch's gradient, at each layer's coordinates."""
        return self._compiled(view).at_coordinates(variables, state, self._batch)

    def __call__(
        self, variables: PyTree, state: PyTree, view: OptimizerView
    ) -> tuple[float, list[tuple[int, str, str, float]], dict[str, np.ndarray]]:
        """Measures one iterate.

        All runs begin at the same weights. Weights that were probed before, bit for bit, have their
        sampled diagonal from there.

        Args:
          variables: the model's.
          state: its optimizer's.
          view: what statistics use of that optimizer.

        Returns:
          The batch's loss; (layer number, layer, statistic, value) for every layer and statistic;
          and the arrays that statistics were made of, by `layer/name`.
        """
        spectra = lambda: self._compiled(view).preconditioned_spectra(variables, state, self._batch)
        directions = lambda: self.directions(variables, state, view)
        sampled = lambda: self._sampled_once(variables)
        measured = self._measure(variables, self._batch, directions, spectra, sampled)
        rows = [(self._numbers[row[0]], *row) for row in measured.values]
        return measured.loss, rows, measured.arrays

    def _sampled_once(self, variables: PyTree) -> dict[str, np.ndarray]:
        weights = digest(variables)
        if weights not in self._diagonals:
            self._diagonals[weights] = self.sampled(variables)
        return self._diagonals[weights]


def _layer(
    number: int, workload: Workload, variables: PyTree
) -> tuple[str, LeafSpec | tuple[LeafSpec, ...]]:
    """A layer's name, and its place in the variables."""
    if number == ALL:
        return "all", tuple(f"params/{path}" for path in leaves_by_path(variables["params"]))
    name, part = workload.layers[number]
    if isinstance(part, LeafSlice):
        return name, part._replace(path=f"params/{part.path}")
    return name, f"params/{part}"
