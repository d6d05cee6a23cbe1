"""The statistics by name, and the values that each records of a layer at a probed step.

Each is built once from a `Context`, with its compiled programs, and is then called with each
iterate. It returns, by layer and name, scalars (rows of `geometry.csv`) and arrays.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.curvature.fisher import fisher
from hgeo.curvature.gauss_newton import gauss_newton
from hgeo.measure import spectra
from hgeo.measure.context import Context, Statistic
from hgeo.params.leaf_paths import path_of
from hgeo.params.matrices import output_by_input
from hgeo.probes.full_diagonal import full_diagonal
from hgeo.probes.row_dominance import row_dominance
from hgeo.sharding import mesh_context, whole_array
from hgeo.statistics.alignment import alignment
from hgeo.statistics.entry_counts import counts
from hgeo.statistics.low_rank import low_rank
from hgeo.statistics.r_diag import r_diag
from hgeo.statistics.r_med import r_med, r_med_spread


def summarise(entries: np.ndarray, eps: float, name: str = "r_med") -> dict[str, Any]:
    """R_med of some entries under a name, with its largest and median entry and their counts."""
    magnitude = np.abs(entries)
    known = np.isfinite(entries).any()
    prefix = name.removesuffix("r_med")
    return {
        name: float(r_med(jnp.asarray(entries), eps)) if known else float("nan"),
        f"{prefix}max_abs": float(magnitude.max()),
        f"{prefix}median_abs": float(np.median(magnitude)),
        **counts(entries, prefix),
    }


def _uniformity(context: Context) -> Statistic:
    eps = context.options.eps
    return lambda probed: {
        name: summarise(entries, eps) | {"diagonal": entries}
        for name, entries in probed.entries().items()
    }


def _spread(context: Context) -> Statistic:
    spread = jax.jit(lambda entries: r_med_spread(entries, context.key, eps=context.options.eps))

    def of_layer(entries):
        result = spread(entries)
        values = {"r_med_median": result.median, "r_med_low": result.low, "r_med_high": result.high}
        return values | counts(entries, "r_med_spread_")

    return lambda probed: {name: of_layer(entries) for name, entries in probed.entries().items()}


def _rows(context: Context, across: bool) -> Statistic:
    dominance = context.compiled(
        lambda variables, batch: row_dominance(
            context.loss,
            variables,
            batch,
            context.coordinates,
            across=context.layers if across else None,
            **context.on_device,
        )
    )
    prefix = "r_diag_across" if across else "r_diag"

    def of_layer(rows):
        mean, median = r_diag(rows) if np.isfinite(rows).any() else (np.nan, np.nan)
        values = {f"{prefix}_mean": mean, f"{prefix}_median": median, f"{prefix}_rows": rows}
        return values | counts(rows, f"{prefix}_")

    return lambda probed: {
        name: of_layer(np.asarray(rows))
        for name, rows in dominance(probed.variables, probed.batch).items()
    }


def _alignment(context: Context) -> Statistic:
    def of_layer(entries, gradient, adaptive):
        arrays = {"gradient": gradient, "adaptive_gradient": adaptive}
        values = arrays | counts(gradient, "gradient_") | counts(adaptive, "adaptive_gradient_")
        known = all(np.isfinite(array).any() for array in (entries, gradient, adaptive))
        if not known or len(entries) < 2:
            return {"rho_gradient": np.nan, "rho_adaptive": np.nan} | values
        result = alignment(entries, gradient, adaptive)
        correlations = {
            "rho_gradient": result.rho_gradient,
            "rho_adaptive": result.rho_adaptive,
        }
        return correlations | values

    def statistic(probed):
        directions = probed.directions()
        return {
            name: of_layer(entries, *directions[name][:2])
            for name, entries in probed.entries().items()
        }

    return statistic


def _preconditioned(context: Context) -> Statistic:
    def statistic(probed):
        by_layer = {}
        for name, entries in probed.entries().items():
            diagonal = entries / probed.directions()[name].preconditioner
            values = summarise(diagonal, context.options.eps, "preconditioned_r_med")
            by_layer[name] = values | {"preconditioned_diagonal": diagonal}
        return by_layer

    return statistic


def _low_rank(context: Context) -> Statistic:
    share = context.options.low_rank_share
    decompose = jax.jit(lambda weight: low_rank(weight, share))
    many = [name for name, layer in context.layers.items() if len(layer.parts) > 1]
    flat = [name for name, layer in context.layers.items() if len(layer.shapes[0]) < 2]
    if many or flat:
        raise ValueError(
            f"statistics has 'low_rank', which takes layers of one matrix; {many + flat} are not"
        )

    def of_layer(layer, variables):
        (kernel,) = map(whole_array, layer.leaves(variables))
        result = decompose(output_by_input(path_of(layer.parts[0]), kernel))
        return {
            "rank": result.rank,
            "r_u": result.r_u,
            "r_v": result.r_v,
            "singular_values": np.asarray(result.singular_values),
            **counts(kernel, "weight_"),
        }

    return lambda probed: {
        name: of_layer(layer, probed.variables) for name, layer in context.layers.items()
    }


def _other_curvature(context: Context, name: str) -> Statistic:
    outputs, head, options = context.outputs, context.head, context.options
    if outputs is None or head is None:
        raise ValueError(
            f"statistics has {name!r}, which needs the model's outputs: give the loss as a pair "
            "(outputs, head)"
        )
    if name == "gauss_newton":
        loss = gauss_newton(outputs, head)
    else:
        loss = lambda variables, batch: fisher(
            outputs, head, example_axes=_example_axes(outputs, variables, batch)
        )(variables, batch)
    probe = context.probe(loss)

    def statistic(probed):
        diagonal = probe(probed.variables, probed.batch)
        arrays = {layer: np.asarray(entries) for layer, entries in diagonal.items()}
        return {
            layer: summarise(entries, options.eps, f"{name}_r_med") | {f"{name}_diagonal": entries}
            for layer, entries in arrays.items()
        }

    return statistic


def _example_axes(outputs, variables, batch) -> int:
    """Each token of a sequence is an example: all axes but the last (classes) count examples."""
    leaves = jax.tree.leaves(jax.eval_shape(outputs, variables, batch))
    return max(1, min(leaf.ndim for leaf in leaves) - 1)


def _full(context: Context) -> Statistic:
    diagonal = context.compiled(
        lambda variables, batch: full_diagonal(
            context.loss,
            variables,
            batch,
            context.layers,
            max_gradients=context.options.max_gradients,
            **context.on_device,
        )
    )
    try:
        with mesh_context(context.mesh if context.axis_name is None else None):
            jax.eval_shape(diagonal, context.variables, context.batch)
    except ValueError as error:
        raise ValueError(f"statistics has 'full', but {error}") from error
    eps = context.options.eps
    return lambda probed: {
        name: summarise(np.asarray(entries), eps, "full_r_med")
        for name, entries in diagonal(probed.variables, probed.batch).items()
    }


STATISTICS: dict[str, Callable[[Context], Statistic]] = {
    "r_med": _uniformity,
    "r_med_spread": _spread,
    "r_diag": lambda context: _rows(context, across=False),
    "r_diag_across": lambda context: _rows(context, across=True),
    "alignment": _alignment,
    "preconditioned": _preconditioned,
    "low_rank": _low_rank,
    "gauss_newton": lambda context: _other_curvature(context, "gauss_newton"),
    "fisher": lambda context: _other_curvature(context, "fisher"),
    "full": _full,
    "spectrum": spectra.of_hessian,
    "preconditioned_spectrum": spectra.of_preconditioned,
    "condition_number": spectra.condition,
}

# Those that need the model's outputs, the optimizer's P, and its update.
OF_OUTPUTS = ("gauss_newton", "fisher")
OF_PRECONDITIONER = ("preconditioned", "preconditioned_spectrum")
OF_UPDATES = ("alignment", *OF_PRECONDITIONER)
