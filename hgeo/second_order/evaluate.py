"""Quadratic forms of a layer's Hessian, along coordinates or any directions, in whichever mode."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.batching import averaged
from hgeo.losses import Loss
from hgeo.params.checks import check_along
from hgeo.params.static_leaves import held
from hgeo.second_order.memory import ChunkSize, checked_chunk_size, one_at_a_time
from hgeo.second_order.modes import MODES, ModeChoice, check_mode, choose
from hgeo.second_order.quadratic_form import Along

PyTree = Any


def forms_and_choice(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    along: Along,
    *,
    mode: str,
    chunk_size: int | str,
    memory_budget: int | None,
    microbatch_size: int | None,
    precision: str | None,
    axis_name: str | None,
) -> "tuple[OrderedDict[str, jax.Array], ModeChoice]":
    """vᵀHv for each layer and each v in `along`, with the mode that was taken and why.

    Arguments and errors are those of `sampled_diagonal`.
    """
    chunk = check_options(along, mode, chunk_size, memory_budget)
    loss, params, batch = held(loss, params, batch)
    choices = []

    def forms(total, params, piece):
        choices.append(choose(mode, total, params, along))
        own = chunk if choices[-1].vmapped else one_at_a_time(chunk)
        return MODES[choices[-1].mode](total, params, along).at_all_points(own)

    values = averaged(
        forms,
        loss,
        params,
        batch,
        microbatch_size=microbatch_size,
        precision=precision,
        axis_name=axis_name,
    )
    results = OrderedDict(
        (name, jnp.where(chosen.inside(), means, jnp.nan))
        for (name, chosen), means in zip(along.items(), values, strict=True)
    )
    return results, choices[0]


def check_options(
    along: Mapping[str, Any],
    mode: str,
    chunk_size: int | str,
    memory_budget: int | None,
) -> int | ChunkSize:
    """Raises a ValueError or TypeError for a bad argument; gives the modes' chunk size."""
    check_mode(mode)
    if not along:
        raise ValueError("no coordinates were given, so there is nothing to probe")
    check_along(along)
    return checked_chunk_size(chunk_size, memory_budget)
