"""A loop over the points of many layers, in which each segment is compiled once."""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Carry = tuple[jax.Array, Any]


def shared_loop(
    paths: Mapping[str, Sequence[Hashable]],
    chunks: Mapping[str, jax.Array],
    first_segment: Callable[[str, jax.Array], Carry],
    next_segment: Callable[[Any, jax.Array, Any], Carry],
) -> dict[str, jax.Array]:
    """Evaluates each layer's quadratic form at all its points.

    Args:
      paths: by layer, the cut points that it passes, in order.
      chunks: by layer, its points, (chunks, size, ...); all layers have the same size.
      first_segment: maps a layer and a chunk of its points to a scalar of each and the tangents at
        its first cut point.
      next_segment: maps a cut point, scalars and tangents to those at the next cut point.

    Returns:
      By layer, the scalars at the end of its path, (chunks, size).
    """
    names = list(paths)
    # For each cut point, and `None` for the loss: the segments that end there, and the number of
    # the segment that each layer takes.
    segments: dict[Hashable, list[tuple[bool, Any]]] = {}
    taken: dict[Hashable, list[int]] = {}
    for place, name in enumerate(names):
        segment = (True, name)
        for end in [*paths[name], None]:
            known = segments.setdefault(end, [])
            known += [] if segment in known else [segment]
            taken.setdefault(end, [0] * len(names))[place] = known.index(segment)
            segment = (False, end)

    def arrive(end, place, number):
        def through(segment):
            is_first, start = segment
            if not is_first:
                carried = arrive(start, place, number)
                return next_segment(start, *carried)
            chunk = jax.lax.dynamic_index_in_dim(chunks[start], number, keepdims=False)
            return first_segment(start, chunk)

        if len(segments[end]) == 1:
            return through(segments[end][0])
        # Nested, so that no tangents are carried past a cut point that a layer does not pass.
        branches = [functools.partial(through, segment) for segment in segments[end]]
        return jax.lax.switch(jnp.asarray(taken[end])[place], branches)

    counts = [len(chunks[name]) for name in names]
    places = np.repeat(np.arange(len(names)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])
    results = jax.lax.map(lambda pair: arrive(None, *pair)[0], (places, numbers))
    return dict(zip(names, jnp.split(results, np.cumsum(counts)[:-1]), strict=True))
