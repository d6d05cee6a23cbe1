"""Quadratic forms of wide logits z = x·W from the tangent of x, without computing ż.

Where z = x·W is wide (a vocabulary) and its tangent ż = ẋ·W enters only

- the weights of its square, Σ_v w_v ż_v²  = ẋ G ẋᵀ,  G = W diag(w) Wᵀ, one d×d matrix a token;
- sums over v, Σ_v c_v ż_v = ẋ·(W c);
- entries picked by an index y for each token, ż_y = ẋ·W[:, y],
- equations that move whole tokens (flatten, shift), whose outputs then enter only such terms,

as under softmax cross-entropy in its usual forms, the sums and entries take d operations a token
each. The square takes d² operations with G, which is computed once for all coordinates. Where too
few coordinates share G, ż is computed for a few tokens at a time and squared while in the cache.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hgeo.devices import automatic_axes, pin, shares_of, spread
from hgeo.second_order.summation import inner, total

# Time of a multiply-add on 2 CPU cores, relative to one in a large matrix product: to compute half
# of G; to apply G, a product of small matrices read from memory; to compute and square ż.
MAKE_GRAM, APPLY_GRAM, SQUARE = 0.7, 6.0, 1.3

# G is symmetric: its upper triangle is computed in this many rows of blocks, 5/8 of its entries.
PIECES = 4

# Entries of ż that are computed together, for one coordinate.
BLOCK = 2**17


@dataclasses.dataclass(frozen=True)
class WideProduct:
    """z = x·W, with W constant and x moving.

    Attributes:
      source: the variable x, of shape (..., d).
      matrix: W, of shape (d, V).
    """

    source: int
    matrix: jax.Array

    def square(
        self, weight: jax.Array, num_coordinates: int, batch_axes: tuple[str, ...] | None = None
    ) -> Callable[[jax.Array], jax.Array]:
        """Σ_v w_v ż_v², a scalar, as a function of ẋ of shape (..., d).

        Args:
          weight: w for each token, of shape (..., V).
          num_coordinates: how often the function will be called.
          batch_axes: the mesh axes over which tokens are split, if known; G is then split over all
            axes.
        """
        d, wide = self.matrix.shape
        cost_of_gram = MAKE_GRAM * d * d * wide + APPLY_GRAM * num_coordinates * d * d
        with_gram = cost_of_gram < SQUARE * num_coordinates * d * wide
        by_token = weight.reshape(-1, wide)
        is_known = batch_axes is not None and automatic_axes(self.matrix)[0] is not None
        square = self._with_gram if with_gram else self._by_blocks
        return square(by_token, batch_axes if is_known else None)

    def _with_gram(
        self, weights: jax.Array, batch_axes: tuple[str, ...] | None
    ) -> Callable[[jax.Array], jax.Array]:
        d, matrix = self.matrix.shape[0], self.matrix
        pinned = spread_over = lambda array: array
        if batch_axes is not None:
            pinned, spread_over = lambda array: pin(array, batch_axes), spread
            matrix = pin(matrix, ())  # a loop over sharded rows would gather each row separately
            weights = pinned(weights)
        size = max(1, -(-d // PIECES))
        pieces = []
        for start in range(0, d, size):
            own, rest = matrix[start : start + size], matrix[start:]
            # An entry of G outside the diagonal blocks counts for its mirror image too.
            twice = jnp.where(jnp.arange(len(rest)) < len(own), 1.0, 2.0).astype(rest.dtype)
            rest = rest * twice[:, None]
            # One row of G for all tokens: (tokens, V) times (V, d − start).
            gram_row = lambda row, rest=rest: spread_over(weights @ (rest * row[None]).T)
            pieces.append(jnp.moveaxis(jax.lax.map(gram_row, own), 0, -1))

        def apply(moved):
            moved = spread_over(pinned(moved.reshape(-1, d)))
            numbers = (((1,), (1,)), ((0,), (0,)))
            products = [
                jax.lax.dot_general(moved[:, k * size :], piece, numbers)
                for k, piece in enumerate(pieces)
            ]
            return inner(jnp.concatenate(products, axis=1), moved)

        return apply

    def _by_blocks(
        self, weights: jax.Array, batch_axes: tuple[str, ...] | None
    ) -> Callable[[jax.Array], jax.Array]:
        d, wide = self.matrix.shape

        def square_of_token(token):
            moved, weight = token
            return jnp.sum(weight * jnp.square(moved @ self.matrix), axis=-1)

        def apply(moved):
            tokens = (moved.reshape(-1, d), weights)
            shares = shares_of(self.matrix)
            if batch_axes is not None and len(weights) % shares == 0:
                # Each step takes one token of each device's share. A loop over the tokens in their
                # order would run every step on every device.
                by_share = lambda x, axes=batch_axes: spread(
                    pin(x, axes).reshape(shares, -1, x.shape[-1])
                )
                tokens = jax.tree.map(lambda x: jnp.moveaxis(by_share(x), 1, 0), tokens)
            return total(jax.lax.map(square_of_token, tokens, batch_size=max(1, BLOCK // wide)))

        return apply

    def summed(self, factor: jax.Array | None) -> jax.Array:
        """W c for each token: (..., V) -> (..., d); `None` means ones and gives shape (d,)."""
        if factor is None:
            return jnp.sum(self.matrix, axis=1)
        return factor @ self.matrix.T

    def picked(self, labels: jax.Array) -> jax.Array:
        """W[:, y] for each token: labels (..., 1) -> (..., d); zero for a label out of range."""
        wide = self.matrix.shape[1]
        columns = jnp.take(self.matrix.T, jnp.clip(labels[..., 0], 0, wide - 1), axis=0)
        inside = (labels >= 0) & (labels < wide)
        return jnp.where(inside, columns, jnp.zeros_like(columns))
