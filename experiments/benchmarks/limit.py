"""The least time of a call: its products and convolutions alone, each shape timed by itself."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from experiments.benchmarks.timing import measure
from hgeo.second_order.memory import bodies

# Products of one shape in one program, each with its operands, so that the call's overhead hardly
# counts; fewer where the operands are large.
MOST, MOST_ELEMENTS = 16, 3e7


class Product(NamedTuple):
    """A batched matrix product: (batch, rows, inner) times (batch, inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def operations(self) -> float:
        """Floating-point operations of one such product."""
        return 2.0 * self.batch * self.rows * self.inner * self.columns

    @property
    def operands(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes that are multiplied."""
        return (self.batch, self.rows, self.inner), (self.batch, self.inner, self.columns)

    def __call__(self, left: jax.Array, right: jax.Array, precision: str | None) -> jax.Array:
        """The product of two arrays of these shapes."""
        return jax.lax.dot_general(left, right, (((2,), (1,)), ((0,), (0,))), precision=precision)


class Convolution(NamedTuple):
    """A convolution, or a gradient of one, as `jax.lax.conv_general_dilated` takes it."""

    images: tuple[int, ...]
    kernel: tuple[int, ...]
    params: tuple[tuple[str, Any], ...]

    @property
    def operations(self) -> float:
        """Floating-point operations, those on inserted and padded zeros too."""
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in self.operands]
        out = jax.eval_shape(lambda images, kernel: self(images, kernel, None), *arrays)
        outputs = self.kernel[dict(self.params)["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(out.shape) * math.prod(self.kernel) / outputs

    @property
    def operands(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes that are convolved."""
        return self.images, self.kernel

    def __call__(self, images: jax.Array, kernel: jax.Array, precision: str | None) -> jax.Array:
        """The convolution of two arrays of these shapes."""
        return jax.lax.conv_general_dilated(
            images, kernel, precision=precision, **dict(self.params)
        )


Heavy = Product | Convolution


class Limit(NamedTuple):
    """Operations, the seconds that they take alone, and the seconds of the call that has them."""

    operations: float
    seconds: float
    call: float


def products(function: Callable[..., Any], *arguments: Any) -> Counter[Heavy]:
    """How often a call makes each product and convolution, loops counted out."""
    return _products(jax.make_jaxpr(function)(*arguments).jaxpr)


def _products(jaxpr: core.Jaxpr) -> Counter[Heavy]:
    found: Counter[Heavy] = Counter()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in _READ:
            avals: list[Any] = [var.aval for var in eqn.invars]
            shapes = [tuple(aval.shape) for aval in avals]
            found[_READ[eqn.primitive.name](*shapes, eqn.params)] += 1
        for body in bodies(eqn.params):
            for shape, count in _products(body).items():
                found[shape] += count * int(eqn.params.get("length", 1))
    return found


def _product(left, right, params):
    (contract, batch) = params["dimension_numbers"]
    size = lambda shape, axes: math.prod(shape[axis] for axis in axes)
    inner, common = size(left, contract[0]), size(left, batch[0])
    rows, columns = math.prod(left) // (inner * common), math.prod(right) // (inner * common)
    return Product(common, rows, inner, columns)


def _convolution(images, kernel, params):
    rest = {name: value for name, value in params.items() if name != "precision"}
    return Convolution(images, kernel, tuple(sorted(rest.items())))


_READ = {"dot_general": _product, "conv_general_dilated": _convolution}


def least(
    counts: Counter[Heavy],
    call: Callable[[], Any],
    rounds: int,
    precision: str | None = "highest",
) -> Limit:
    """Times every shape, in turns with the call that makes them, and adds up.

    Args:
      counts: from `products`.
      call: makes them all; compiled, and waits for its result.
      rounds: of all of them.
      precision: of the products, as JAX names it.
    """
    calls = {shape: _call(shape, precision) for shape in counts}
    alone: dict[Any, Callable[[], Any]] = {shape: one for shape, (one, _) in calls.items()}
    timings = measure(alone | {call: call}, rounds)
    return Limit(
        sum(shape.operations * count for shape, count in counts.items()),
        sum(count * timings[shape].median / calls[shape][1] for shape, count in counts.items()),
        timings[call].median,
    )


def _call(shape: Heavy, precision: str | None) -> tuple[Callable[[], Any], int]:
    elements = sum(map(math.prod, shape.operands))
    number = max(1, min(MOST, int(MOST_ELEMENTS / elements)))
    key = jax.random.key(0)
    left, right = (jax.random.normal(key, size, jnp.float32) for size in shape.operands)
    pairs = [(left + k, right + k) for k in range(number)]

    @jax.jit
    def run(pairs):
        return [shape(a, b, precision) for a, b in pairs]

    call = lambda: jax.block_until_ready(run(pairs))
    call()
    return call, number
