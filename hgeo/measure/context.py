"""The inputs that statistics share: loss, coordinates, devices, options, and one iterate."""

import dataclasses
import numbers
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from hgeo.batching import matmul_precision
from hgeo.devices import AXIS, OverBatch
from hgeo.losses import Loss
from hgeo.params.coordinates import Coordinates
from hgeo.params.layers import Layer
from hgeo.probes.compiled_probe import Probe, make_probe
from hgeo.probes.spectrum import Spectrum
from hgeo.second_order.adjoint_weighted import check_remat
from hgeo.second_order.explicit_axes import on_automatic_axes
from hgeo.sharding import BatchSpec, OverMesh

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ProbeOptions:
    """Options of the statistics; an experiment's config has a key for each in `probe`.

    Attributes:
      mode: of the sampled diagonal, as in `hgeo.sampled_diagonal`.
      chunk_size: the same.
      remat: the same; it changes memory and not values.
      microbatch_size: examples computed together on each device, or for sharded params on all
        devices; `None`: the whole batch.
      precision: of matrix products; `None`: the precision that is set outside.
      eps: added to the median in every R_med.
      low_rank_share: the share of ‖W‖_F² that the rank of `low_rank` holds.
      num_matvecs: Lanczos steps of `spectrum`.
      num_samples: random vectors of `spectrum`.
      max_gradients: the largest allowed cost of `full`, in gradients of the loss.
    """

    mode: str = "auto"
    chunk_size: int | str = "auto"
    remat: str = "auto"
    microbatch_size: int | None = None
    precision: str | None = "highest"
    eps: float = 0.0
    low_rank_share: float = 0.9
    num_matvecs: int = 30
    num_samples: int = 4
    max_gradients: float = 20_000.0

    def check(self) -> None:
        """Raises a ValueError that names a field out of its range, its value and the range."""
        for name in ("eps", "low_rank_share", "max_gradients"):
            if not isinstance(getattr(self, name), numbers.Real):
                raise ValueError(f"{name} must be a number, not {getattr(self, name)!r}")
        check_remat(self.remat)
        with matmul_precision(self.precision):
            pass
        if not self.eps >= 0:  # nor NaN
            raise ValueError(f"eps must be 0 or more, not {self.eps}")
        if not 0 < self.low_rank_share <= 1:
            raise ValueError(f"low_rank_share must lie in (0, 1], not {self.low_rank_share}")
        for name, least in (("num_matvecs", 1), ("num_samples", 2), ("microbatch_size", 1)):
            value = getattr(self, name)
            if value is None and name == "microbatch_size":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )


@dataclasses.dataclass(frozen=True)
class Context:
    """The inputs that all statistics of a loss share.

    Attributes:
      loss: `loss(variables, batch)`, which is probed.
      coordinates: of each layer, in order.
      variables: variables of the probed shapes.
      batch: a batch of the probed shapes.
      mesh: the devices.
      key: random key of the statistics.
      options: options of the statistics.
      outputs: the model, `(variables, batch) -> outputs`; `None` if unknown.
      head: the loss of the outputs, `(outputs, batch) -> loss`; `None` if unknown.
      axis_name: the axis over which the batch is split, with variables replicated; `None` if the
        variables are sharded on `mesh`, and the loss sees global arrays.
      batch_spec: for sharded variables, how to split arrays of the batch that lie on no mesh.
      coordinate_axis: for sharded variables, a mesh axis over which coordinates are split.
    """

    loss: Loss
    coordinates: "OrderedDict[str, Coordinates]"
    variables: PyTree
    batch: PyTree
    mesh: Mesh
    key: jax.Array
    options: ProbeOptions
    outputs: Callable[[PyTree, PyTree], Any] | None = None
    head: Callable[[PyTree, PyTree], Any] | None = None
    axis_name: str | None = AXIS
    batch_spec: BatchSpec = None
    coordinate_axis: str | None = None

    @property
    def layers(self) -> "OrderedDict[str, Layer]":
        """The layers by name, in order."""
        return OrderedDict((name, chosen.layer) for name, chosen in self.coordinates.items())

    @property
    def on_device(self) -> dict[str, Any]:
        """The arguments of probes within a program over the devices."""
        return {
            "microbatch_size": self.options.microbatch_size,
            "precision": self.options.precision,
            "axis_name": self.axis_name,
        }

    def compiled(self, function: Callable[..., Any]) -> OverBatch | OverMesh:
        """Compiles `function(..., batch)` over all devices."""
        if self.axis_name is None:
            return OverMesh(function, self.mesh, self.batch_spec)
        return OverBatch(function, self.mesh)

    def probe(self, loss: Loss, mode: str = "auto") -> Probe:
        """Compiles the probe of a loss of the same variables and batch."""
        where: dict[str, Any] = {"devices": list(self.mesh.devices.flat)}
        if self.axis_name is None:
            where = {
                "mesh": self.mesh,
                "batch_spec": self.batch_spec,
                "coordinate_axis": self.coordinate_axis,
            }
        return make_probe(
            loss,
            self.coordinates,
            mode=mode,
            chunk_size=self.options.chunk_size,
            remat=self.options.remat,
            microbatch_size=self.options.microbatch_size,
            precision=self.options.precision,
            **where,
        )


@on_automatic_axes
def entries_at(tree: PyTree, coordinates: Mapping[str, Coordinates]) -> dict[str, jax.Array]:
    """The entries at each layer's coordinates of a tree with the variables' structure."""
    return {name: chosen.layer.ravel(tree)[chosen.indices] for name, chosen in coordinates.items()}


class AtCoordinates(NamedTuple):
    """A layer's gradient, adaptive gradient and P at its coordinates; each of shape `(K,)`.

    Attributes:
      gradient: g.
      adaptive_gradient: u in the update −learning_rate · u, up to a positive factor.
      preconditioner: P; `None` without an optimizer.
    """

    gradient: np.ndarray
    adaptive_gradient: np.ndarray
    preconditioner: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Probed:
    """An iterate, and the arrays of it that several statistics use.

    Attributes:
      variables: the model's variables.
      batch: on the devices.
      entries: returns the sampled diagonal by layer.
      directions: returns gradient, adaptive gradient and preconditioner by layer.
      preconditioned_spectra: returns the spectrum of P^(-1/2) H P^(-1/2) by layer.
    """

    variables: PyTree
    batch: PyTree
    entries: Callable[[], Mapping[str, np.ndarray]]
    directions: Callable[[], Mapping[str, AtCoordinates]]
    preconditioned_spectra: Callable[[], Mapping[str, Spectrum]]


Statistic = Callable[[Probed], dict[str, dict[str, Any]]]
