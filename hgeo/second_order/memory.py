"""How many coordinates are computed together under a budget of bytes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core

from hgeo.arguments import check_whole
from hgeo.second_order.chunking import even_chunks

# On a CPU more than about four coordinates do not fit into the caches, and save no time.
MOST_ON_CPU = 4
MOST_ELSEWHERE = 64
BUDGET_ELSEWHERE = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class ChunkSize:
    """A chunk size that is chosen for each layer.

    Attributes:
      budget: bytes that the temporaries of one chunk may take; `None`: no bound on a CPU, 2 GiB on
        other backends.
      most: the largest number of coordinates in a chunk; `None`: 4 on a CPU, 64 on other backends.
    """

    budget: int | None
    most: int | None = None


def checked_chunk_size(chunk_size: int | str, memory_budget: int | None) -> int | ChunkSize:
    """The modes' chunk size, from the callers' arguments.

    Raises:
      ValueError: `chunk_size` is neither "auto" nor 1 or more; `memory_budget` is given beside
        a number, or is below 1.
    """
    if memory_budget is not None and memory_budget < 1:
        raise ValueError(f"memory_budget must be at least 1 byte, not {memory_budget}")
    if isinstance(chunk_size, str):
        if chunk_size != "auto":
            raise ValueError(f"chunk_size must be a whole number or 'auto', not {chunk_size!r}")
        return ChunkSize(memory_budget)
    check_whole("chunk_size", chunk_size)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    if memory_budget is not None:
        raise ValueError(f"memory_budget={memory_budget} needs chunk_size='auto', not {chunk_size}")
    return chunk_size


def one_at_a_time(chunk_size: int | ChunkSize) -> int | ChunkSize:
    """Chunks of one coordinate, under the same budget."""
    return 1 if isinstance(chunk_size, int) else dataclasses.replace(chunk_size, most=1)


def chunk_of(
    chunk_size: int | ChunkSize, name: str, form: Callable[[Any], Any], points: jax.Array
) -> int:
    """The number of coordinates or directions of one layer to compute together.

    Args:
      chunk_size: a number, or a budget.
      name: of the layer, for the error.
      form: a function of one point.
      points: the layer's points, along the leading axis.

    Raises:
      ValueError: the budget is below what one coordinate takes.
    """
    if isinstance(chunk_size, int):
        return chunk_size
    point = jax.ShapeDtypeStruct(points.shape[1:], points.dtype)
    most = most_together(chunk_size, name, lambda: temporary_bytes(form, point))
    return even_chunks(points.shape[0], most)[1]


def most_together(chunk_size: int | ChunkSize, name: str, measure: Callable[[], int]) -> int:
    """The largest number of coordinates or directions of one layer to compute together.

    Args:
      chunk_size: a number, or a budget.
      name: of the layer, for the error.
      measure: returns the bytes that one of them takes; called only if there is a budget.

    Raises:
      ValueError: the budget is below what one coordinate takes.
    """
    if isinstance(chunk_size, int):
        return chunk_size
    on_cpu = jax.default_backend() == "cpu"
    most = chunk_size.most or (MOST_ON_CPU if on_cpu else MOST_ELSEWHERE)
    budget = chunk_size.budget
    if budget is None and not on_cpu:
        budget = BUDGET_ELSEWHERE
    if budget is not None:
        taken = measure()
        if taken > budget and chunk_size.budget is not None:
            raise ValueError(
                f"one coordinate of layer {name!r} takes about {taken} bytes of temporaries, "
                f"but memory_budget is {budget}; raise it, or take a smaller microbatch_size"
            )
        most = max(1, min(most, budget // max(taken, 1)))
    return most


def temporary_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """An upper estimate of a function's peak memory for temporaries, in bytes.

    Every value counts from the equation that computes it to the last that reads it. Arrays that the
    function closes over do not count. The compiler's fusions need less.
    """
    return _peak(jax.make_jaxpr(function)(*arguments).jaxpr)


def _peak(jaxpr: core.Jaxpr) -> int:
    last: dict[Any, int] = {}
    for k, eqn in enumerate(jaxpr.eqns):
        last.update({v: k for v in eqn.invars if not isinstance(v, core.Literal)})
    last.update({v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, core.Literal)})
    made: dict[Any, int] = {}
    peak = 0
    for k, eqn in enumerate(jaxpr.eqns):
        made.update({v: bytes_of(v.aval) for v in eqn.outvars if v in last})
        inner = max((_peak(body) for body in bodies(eqn.params)), default=0)
        peak = max(peak, sum(made.values()) + inner)
        for v in [v for v in made if last[v] <= k]:
            del made[v]
    return peak


def bodies(params: Any):
    """The programs among the parameters of an equation."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def bytes_of(aval: Any) -> int:
    """The bytes of a variable; 0 for one without a shape."""
    if not hasattr(aval, "shape"):
        return 0
    size = getattr(aval.dtype, "itemsize", 8)
    return int(np.prod(aval.shape, dtype=np.int64)) * size
