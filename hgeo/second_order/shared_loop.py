"""One loop over the points of many layers, each leg of whose ways is compiled once."""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.second_order.chunking import together

Carry = tuple[jax.Array, Any]


def shared_loop(
    ways: Mapping[str, Sequence[Hashable]],
    chunks: Mapping[str, jax.Array],
    leave: Callable[[str, jax.Array], Carry],
    go_on: Callable[[Any, jax.Array, Any], Carry],
) -> dict[str, jax.Array]:
    """What each point of each layer has gathered at the end of its layer's way.

    Args:
      ways: by layer, the stops that it comes by, in order.
      chunks: by layer, its points, (chunks, size, ...), of one size for all.
      leave: the way of one point of a layer to its first stop: a scalar and what it carries there.
      go_on: from a stop, with scalar and carry, to the next.

    Returns:
      By layer the scalars, (chunks, size).
    """
    names = list(ways)
    # By stop, and by `None` for the end: the legs to it, and which of them each layer takes.
    legs: dict[Hashable, list[tuple[bool, Any]]] = {}
    taken: dict[Hashable, list[int]] = {}
    for place, name in enumerate(names):
        leg = (True, name)
        for stop in [*ways[name], None]:
            known = legs.setdefault(stop, [])
            known += [] if leg in known else [leg]
            taken.setdefault(stop, [0] * len(names))[place] = known.index(leg)
            leg = (False, stop)

    def arrive(stop, place, number):
        def by(leg):
            is_first, start = leg
            if not is_first:
                carried = arrive(start, place, number)
                return together(functools.partial(go_on, start))(*carried)
            chunk = jax.lax.dynamic_index_in_dim(chunks[start], number, keepdims=False)
            return together(functools.partial(leave, start))(chunk)

        if len(legs[stop]) == 1:
            return by(legs[stop][0])
        # One in the other, so that nothing is carried past a stop that a layer does not come by.
        branches = [functools.partial(by, leg) for leg in legs[stop]]
        return jax.lax.switch(jnp.asarray(taken[stop])[place], branches)

    counts = [len(chunks[name]) for name in names]
    places = np.repeat(np.arange(len(names)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])
    results = jax.lax.map(lambda pair: arrive(None, *pair)[0], (places, numbers))
    return dict(zip(names, jnp.split(results, np.cumsum(counts)[:-1]), strict=True))
