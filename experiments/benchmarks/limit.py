"""The least time of a probe: its matrix products alone, each shape timed by itself."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from experiments.benchmarks.timing import measure
from hgeo.probes.memory import bodies

# Products of one shape that one program makes, from operands of their own, so that the call's own
# cost hardly counts; fewer where the operands are large.
MOST, MOST_ELEMENTS = 16, 3e7


class Shape(NamedTuple):
    """A batched matrix product: (batch, rows, inner) times (batch, inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def operations(self) -> float:
        """Floating-point operations of one such product."""
        return 2.0 * self.batch * self.rows * self.inner * self.columns


class Limit(NamedTuple):
    """Operations in products, and the seconds that they take by themselves."""

    operations: float
    seconds: float


def products(function: Callable[..., Any], *arguments: Any) -> Counter[Shape]:
    """How often a call makes a product of each shape, loops counted out."""
    return _products(jax.make_jaxpr(function)(*arguments).jaxpr)


def _products(jaxpr: core.Jaxpr) -> Counter[Shape]:
    found: Counter[Shape] = Counter()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            found[_shape(eqn)] += 1
        for body in bodies(eqn.params):
            for shape, count in _products(body).items():
                found[shape] += count * int(eqn.params.get("length", 1))
    return found


def _shape(eqn: core.JaxprEqn) -> Shape:
    (contract, batch) = eqn.params["dimension_numbers"]
    avals: list[Any] = [var.aval for var in eqn.invars]
    left, right = (tuple(aval.shape) for aval in avals)
    size = lambda shape, axes: math.prod(shape[axis] for axis in axes)
    inner, common = size(left, contract[0]), size(left, batch[0])
    rows, columns = math.prod(left) // (inner * common), math.prod(right) // (inner * common)
    return Shape(common, rows, inner, columns)


def least(counts: Counter[Shape], rounds: int, precision: str | None = "highest") -> Limit:
    """Times every shape, interleaved, and adds up; at a precision of products as JAX names them."""
    calls = {shape: _call(shape, precision) for shape in counts}
    timings = measure({shape: call for shape, (call, _) in calls.items()}, rounds)
    return Limit(
        sum(shape.operations * count for shape, count in counts.items()),
        sum(count * timings[shape].median / calls[shape][1] for shape, count in counts.items()),
    )


def _call(shape: Shape, precision: str | None) -> tuple[Callable[[], Any], int]:
    elements = shape.batch * shape.inner * (shape.rows + shape.columns)
    number = max(1, min(MOST, int(MOST_ELEMENTS / elements)))
    key = jax.random.key(0)
    left = jax.random.normal(key, (shape.batch, shape.rows, shape.inner), jnp.float32)
    right = jax.random.normal(key, (shape.batch, shape.inner, shape.columns), jnp.float32)
    pairs = [(left + k, right + k) for k in range(number)]
    numbers = (((2,), (1,)), ((0,), (0,)))

    @jax.jit
    def run(pairs):
        return [jax.lax.dot_general(a, b, numbers, precision=precision) for a, b in pairs]

    call = lambda: jax.block_until_ready(run(pairs))
    call()
    return call, number
