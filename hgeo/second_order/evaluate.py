"""Quadratic forms of a layer's Hessian along coordinates or directions, in any mode."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.batching import averaged
from hgeo.losses import Loss
from hgeo.params.checks import check_along
from hgeo.params.static_leaves import held
from hgeo.second_order.adjoint_weighted import ShareSegments, check_remat
from hgeo.second_order.coordinate_axis import coordinate_axis_of
from hgeo.second_order.explicit_axes import in_automatic_axes
from hgeo.second_order.memory import ChunkSize, checked_chunk_size, one_at_a_time
from hgeo.second_order.modes import MODES, ModeChoice, check_mode, choose
from hgeo.second_order.quadratic_form import ProbePoints

PyTree = Any


@in_automatic_axes
def evaluate_quadratic_forms(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    probe_points: ProbePoints,
    *,
    mode: str = "auto",
    chunk_size: int | str = "auto",
    memory_budget: int | None = None,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
    coordinate_axis: str | None = None,
    share_segments: ShareSegments = "auto",
    batch_axes: tuple[str, ...] | None = None,
    remat: str = "auto",
) -> "tuple[OrderedDict[str, jax.Array], ModeChoice]":
    """Computes vᵀHv for each layer and each v in `probe_points`; returns the mode too.

    Arguments and errors are those of `sampled_diagonal`, and these:

    Args:
      share_segments: how adjoint-weighted mode loops over layers; the other modes ignore it.
        `True`: one loop for all layers, in which each segment is compiled once, with every possible
        cut point. `False`: one loop for each layer. "auto": the one with the lower estimated time.
      batch_axes: the mesh axes over which the batch is split; `None` if unknown.

    Raises:
      ValueError: `share_segments` is neither "auto" nor a bool.
    """
    if share_segments not in ("auto", True, False):
        raise ValueError(f"share_segments must be 'auto', True or False, not {share_segments!r}")
    chunk = check_options(probe_points, mode, chunk_size, memory_budget, remat)
    loss, params, batch = held(loss, params, batch)
    axis = coordinate_axis_of(coordinate_axis, (params, batch))
    choices = []

    def values_of_piece(total, params, piece):
        choice = choose(mode, total, params, probe_points)
        choices.append(choice)
        if axis is not None and not choice.vmapped:
            raise ValueError(
                f"coordinate_axis={coordinate_axis!r} needs a loss whose coordinates can be "
                f"computed together, but {choice.reason}; leave coordinate_axis out"
            )
        options: dict[str, Any] = {}
        if choice.mode == "adjoint_weighted":
            options = {"share_segments": share_segments, "batch_axes": batch_axes, "remat": remat}
        elif remat == "block":
            raise ValueError(
                f"remat='block' needs adjoint-weighted mode, but {choice.mode} is taken, since "
                f"{choice.reason}; leave remat out"
            )
        forms = MODES[choice.mode](total, params, probe_points, **options)
        return forms.at_all_points(chunk if choice.vmapped else one_at_a_time(chunk), axis)

    values = averaged(
        values_of_piece,
        loss,
        params,
        batch,
        microbatch_size=microbatch_size,
        precision=precision,
        axis_name=axis_name,
    )
    results = OrderedDict(
        (name, jnp.where(chosen.inside(), means, jnp.nan))
        for (name, chosen), means in zip(probe_points.items(), values, strict=True)
    )
    return results, choices[0]


def check_options(
    probe_points: Mapping[str, Any],
    mode: str,
    chunk_size: int | str,
    memory_budget: int | None,
    remat: str = "auto",
) -> int | ChunkSize:
    """Raises a ValueError or TypeError for a bad argument; returns the modes' chunk size."""
    check_mode(mode)
    check_remat(remat)
    if not probe_points:
        raise ValueError("no coordinates were given; give those of at least one layer")
    check_along(probe_points)
    return checked_chunk_size(chunk_size, memory_budget)
