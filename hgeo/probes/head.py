"""Wide products: quadratic forms of logits x·W pulled back to x, once for all coordinates.

Where z = x·W is wide (a vocabulary) and its tangent ż = ẋ·W enters nothing but

- the weights of its own square, Σ_v w_v ż_v²  = ẋ G ẋᵀ,  G = W diag(w) Wᵀ, one d×d matrix a token;
- sums over v, Σ_v c_v ż_v = ẋ·(W c);
- entries picked by an index y for each token, ż_y = ẋ·W[:, y],

as under softmax cross-entropy in any of its usual forms, ż itself need never be computed.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.probes.program import Equation

# Of these the second derivative is finite wherever the value is, so that no 0·∞ gets into G.
BOUNDED = {"exp", "mul", "square", "tanh", "logistic", "erf", "sin", "cos"}

# An operation on a wide tangent takes so many times as long as one in G's products: it waits for
# memory. Measured on 2 CPU cores (d 128, V 4,000): G pays from about 30 coordinates, not from 130.
MEMORY_BOUND = 4


@dataclasses.dataclass(frozen=True)
class Product:
    """z = x·W, with W held and x moving.

    Attributes:
      source: the variable x, of shape (..., d).
      matrix: W, of shape (d, V).
    """

    source: int
    matrix: jax.Array

    def pays(self, num: int) -> bool:
        """Whether G costs less than the products of `num` coordinates that share it."""
        d, wide = self.matrix.shape
        return wide > d and MEMORY_BOUND * num * (wide - d) > d * wide

    def gram(self, weight: jax.Array) -> jax.Array:
        """G = W diag(w) Wᵀ for each token: (..., V) -> (..., d, d)."""
        d, wide = self.matrix.shape
        rows = weight.reshape(-1, wide)
        # By token, since W diag(w) for all of them would not fit.
        one = lambda w: (self.matrix * w[None]) @ self.matrix.T
        return jax.lax.map(one, rows).reshape(*weight.shape[:-1], d, d)

    def summed(self, factor: jax.Array | None) -> jax.Array:
        """W c for each token: (..., V) -> (..., d); for ones, of shape (d,)."""
        if factor is None:
            return jnp.sum(self.matrix, axis=1)
        return factor @ self.matrix.T

    def picked(self, labels: jax.Array) -> jax.Array:
        """W[:, y] for each token: labels (..., 1) -> (..., d), zero for a label outside."""
        wide = self.matrix.shape[1]
        rows = jnp.take(self.matrix.T, jnp.clip(labels[..., 0], 0, wide - 1), axis=0)
        inside = (labels >= 0) & (labels < wide)
        return jnp.where(inside, rows, jnp.zeros_like(rows))


def wide_product(equation: Equation, free: tuple[int, ...], values: Any) -> Product | None:
    """The equation as a `Product`, where it is one."""
    (contract, batch) = equation.params["dimension_numbers"]
    left, right = (values[v] for v in equation.inputs)
    if free != (0,) or right.ndim != 2 or batch[0] or left.dtype != right.dtype:
        return None
    if tuple(contract[0]) != (left.ndim - 1,) or equation.avals[0].dtype != right.dtype:
        return None
    matrix = right if contract[1][0] == 0 else right.T
    return Product(equation.inputs[0], matrix) if matrix.shape[1] > matrix.shape[0] else None


def picks_labels(equation: Equation, avals: Any) -> bool:
    """Whether it is `take_along_axis` of one entry along the last axis of its operand."""
    if equation.name != "gather":
        return False
    operand, indices = (avals[v] for v in equation.inputs)
    last = operand.ndim - 1
    numbers = equation.params["dimension_numbers"]
    return (
        last >= 1
        and tuple(numbers.offset_dims) == ()
        and tuple(numbers.collapsed_slice_dims) == (last,)
        and tuple(numbers.start_index_map) == (last,)
        and tuple(numbers.operand_batching_dims) == tuple(range(last))
        and tuple(numbers.start_indices_batching_dims) == tuple(range(last))
        and tuple(indices.shape) == (*operand.shape[:-1], 1, 1)
        and all(size == 1 for size in equation.params["slice_sizes"])
        and "FILL" in str(equation.params["mode"])
    )
