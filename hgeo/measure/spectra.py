"""Eigenvalues of layers as statistics: Lanczos estimates, also of preconditioned Hessians."""

import functools
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hgeo.losses import Loss
from hgeo.measure.context import Context, Statistic
from hgeo.probes.condition_number import condition_number
from hgeo.probes.spectrum import Spectrum, spectrum
from hgeo.statistics.entry_counts import counts

PyTree = Any

MOST_FOR_CONDITION = 10_000


def layer_spectrum(
    context: Context, loss: Loss, name: str, variables: PyTree, batch: PyTree
) -> Spectrum:
    """The spectrum of one layer's Hessian of a loss, on a device."""
    options, layer = context.options, context.layers[name]
    return spectrum(
        loss,
        variables,
        batch,
        layer,
        jax.random.fold_in(context.key, zlib.crc32(name.encode())),
        num_matvecs=min(options.num_matvecs, layer.size),
        num_samples=options.num_samples,
        **context.on_device,
    )


def of_hessian(context: Context) -> Statistic:
    """The statistic `spectrum`."""
    programs = {
        name: context.compiled(functools.partial(layer_spectrum, context, context.loss, name))
        for name in context.layers
    }

    def statistic(probed):
        found = {n: program(probed.variables, probed.batch) for n, program in programs.items()}
        return _values(found, "")

    return statistic


def of_preconditioned(context: Context) -> Statistic:
    """The statistic `preconditioned_spectrum`."""
    return lambda probed: _values(probed.preconditioned_spectra(), "preconditioned_")


def _values(found: Mapping[str, Spectrum], prefix: str) -> dict[str, dict[str, Any]]:
    def of_layer(own):
        values = {
            "largest_eigenvalue": own.largest,
            "largest_eigenvalue_error": own.largest_error,
            "smallest_eigenvalue": own.smallest,
            "smallest_eigenvalue_error": own.smallest_error,
            "smoothness": own.smoothness,
            "trace": own.trace,
            "trace_error": own.trace_error,
            "spectrum_nodes": np.asarray(own.nodes),
            "spectrum_weights": np.asarray(own.weights),
            **counts(own.nodes, "spectrum_"),
        }
        return {f"{prefix}{name}": value for name, value in values.items()}

    return {name: of_layer(own) for name, own in found.items()}


def condition(context: Context) -> Statistic:
    """The statistic `condition_number`.

    Raises:
      ValueError: a layer is too large, or the loss names an axis of the devices.
    """
    large = [name for name, layer in context.layers.items() if layer.size > MOST_FOR_CONDITION]
    if large:
        raise ValueError(
            f"statistics has 'condition_number', which takes layers of at most "
            f"{MOST_FOR_CONDITION} weights, but larger are {large}: leave them out"
        )
    try:  # it runs on a single device, without a named axis
        jax.eval_shape(context.loss, context.variables, context.batch)
    except NameError as error:
        raise ValueError(
            "statistics has 'condition_number', which needs a loss without a named axis of the "
            f"devices (BatchNorm in training mode has one): {error}"
        ) from error

    def of_layer(layer, variables, batch):
        result = condition_number(context.loss, variables, batch, layer)
        return {
            "condition_number": result.condition_number,
            "range_condition_number": result.range_condition_number,
            "hessian_rank": result.rank,
            "largest_magnitude": result.smoothness,
            "eigenvalues": result.eigenvalues,
            **counts(result.eigenvalues, "eigenvalues_"),
        }

    def statistic(probed):
        host = jax.device_get((probed.variables, probed.batch))
        return {name: of_layer(layer, *host) for name, layer in context.layers.items()}

    return statistic
