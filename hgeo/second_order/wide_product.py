"""Wide products: quadratic forms of logits x·W pulled back to x, so that ż is never written out.

Where z = x·W is wide (a vocabulary) and its tangent ż = ẋ·W enters nothing but

- the weights of its own square, Σ_v w_v ż_v²  = ẋ G ẋᵀ,  G = W diag(w) Wᵀ, one d×d matrix a token;
- sums over v, Σ_v c_v ż_v = ẋ·(W c);
- entries picked by an index y for each token, ż_y = ẋ·W[:, y],
- whole tokens moved elsewhere (flattened, shifted), of which then the same holds,

as under softmax cross-entropy in any of its usual forms, the sums and entries take d operations a
token each. The square takes d² with G, which is made once for all coordinates; where too few share
it, ż is computed for a few tokens at a time and squared while it is in the cache.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.second_order.jaxpr import Equation
from hgeo.second_order.summation import inner, total

# Of these the second derivative is finite wherever the value is, so that no 0·∞ gets into G.
BOUNDED = {"exp", "mul", "square", "tanh", "logistic", "erf", "sin", "cos"}

# What a multiply-add takes on 2 CPU cores, in units of one in a large matrix product: to make G by
# half of its entries; to apply it, a product of small matrices out of memory; and to square ż.
MAKE_GRAM, APPLY_GRAM, SQUARE = 0.7, 6.0, 1.3

# Of an upper triangle of G in so many rows of blocks a half less one eighth is left out.
PIECES = 4

# Entries of ż that are computed together, for one coordinate.
BLOCK = 2**17


@dataclasses.dataclass(frozen=True)
class Product:
    """z = x·W, with W held and x moving.

    Attributes:
      source: the variable x, of shape (..., d).
      matrix: W, of shape (d, V).
    """

    source: int
    matrix: jax.Array

    def square(self, weight: jax.Array, num: int) -> Callable[[jax.Array], jax.Array]:
        """Σ_v w_v ż_v² as a function of ẋ, of shape (..., d), for `num` of them; a scalar.

        With weights (..., V), for each token its own.
        """
        d, wide = self.matrix.shape
        cost_of_gram = MAKE_GRAM * d * d * wide + APPLY_GRAM * num * d * d
        with_gram = cost_of_gram < SQUARE * num * d * wide
        rows = weight.reshape(-1, wide)
        return self._with_gram(rows) if with_gram else self._by_blocks(rows)

    def _with_gram(self, rows: jax.Array) -> Callable[[jax.Array], jax.Array]:
        d = self.matrix.shape[0]
        size = max(1, -(-d // PIECES))
        pieces = []
        for start in range(0, d, size):
            own, rest = self.matrix[start : start + size], self.matrix[start:]
            # Below the diagonal blocks an entry of G counts for its mirror image too.
            twice = jnp.where(jnp.arange(len(rest)) < len(own), 1.0, 2.0).astype(rest.dtype)
            rest = rest * twice[:, None]
            # One row of G for all tokens: (tokens, V) times (V, d − start).
            of_row = lambda row, rest=rest: rows @ (rest * row[None]).T
            pieces.append(jnp.moveaxis(jax.lax.map(of_row, own), 0, -1))

        def apply(moved):
            moved = moved.reshape(-1, d)
            numbers = (((1,), (1,)), ((0,), (0,)))
            products = [
                jax.lax.dot_general(moved[:, k * size :], piece, numbers)
                for k, piece in enumerate(pieces)
            ]
            return inner(jnp.concatenate(products, axis=1), moved)

        return apply

    def _by_blocks(self, rows: jax.Array) -> Callable[[jax.Array], jax.Array]:
        d, wide = self.matrix.shape

        def of_token(token):
            moved, weight = token
            return jnp.sum(weight * jnp.square(moved @ self.matrix))

        def apply(moved):
            tokens = (moved.reshape(-1, d), rows)
            return total(jax.lax.map(of_token, tokens, batch_size=max(1, BLOCK // wide)))

        return apply

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


def on_rows(equation: Equation, avals: Any, wide: int) -> Equation | None:
    """The equation for rows of length `wide`, where it moves whole rows and changes none.

    Logits are often flattened, shifted by a token or put in another order before the loss sees
    them. What that does to the rows of x·W it does to those of x.

    Args:
      equation: of one operand, whose rows lie along its last axis.
      avals: shape and dtype of every variable.
      wide: the rows' length.
    """
    name, params, shape = equation.name, equation.params, avals[equation.inputs[0]].shape
    last = len(shape) - 1
    if name == "reshape" and params["new_sizes"][-1:] == shape[-1:]:
        changed = {"new_sizes": (*params["new_sizes"][:-1], wide)}
    elif name == "slice" and _all_of(params, last, shape[last]):
        changed = {"limit_indices": (*params["limit_indices"][:-1], wide)}
    elif (name == "transpose" and params["permutation"][-1] == last) or (
        name == "squeeze" and last not in params["dimensions"]
    ):
        changed = {}
    else:
        return None
    aval = equation.avals[0]
    narrow = aval.update(shape=(*aval.shape[:-1], wide))
    return dataclasses.replace(equation, params={**params, **changed}, avals=(narrow,))


def _all_of(params, axis, size):
    """Whether a slice takes every entry along an axis."""
    strides = params["strides"]
    step = 1 if strides is None else strides[axis]
    return (params["start_indices"][axis], params["limit_indices"][axis], step) == (0, size, 1)


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
