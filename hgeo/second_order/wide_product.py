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

import jax
import jax.numpy as jnp

from hgeo.devices import automatic_axes, pin, shares_of, spread
from hgeo.second_order.summation import inner, total

# What a multiply-add takes on 2 CPU cores, in units of one in a large matrix product: to make G by
# half of its entries; to apply it, a product of small matrices out of memory; and to square ż.
MAKE_GRAM, APPLY_GRAM, SQUARE = 0.7, 6.0, 1.3

# Of an upper triangle of G in so many rows of blocks a half less one eighth is left out.
PIECES = 4

# Entries of ż that are computed together, for one coordinate.
BLOCK = 2**17


@dataclasses.dataclass(frozen=True)
class WideProduct:
    """z = x·W, with W held and x moving.

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
          batch_axes: the mesh axes over which tokens are split, where that is known; G is then
            split over all axes.
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
            matrix = pin(matrix, ())  # a loop over rows that lie in shards would gather each
            weights = pinned(weights)
        size = max(1, -(-d // PIECES))
        pieces = []
        for start in range(0, d, size):
            own, rest = matrix[start : start + size], matrix[start:]
            # Below the diagonal blocks an entry of G counts for its mirror image too.
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
                # One token of each device's share together: a loop over tokens that lie on one
                # device after the other would run on every device for all of them.
                by_share = lambda x, axes=batch_axes: spread(
                    pin(x, axes).reshape(shares, -1, x.shape[-1])
                )
                tokens = jax.tree.map(lambda x: jnp.moveaxis(by_share(x), 1, 0), tokens)
            return total(jax.lax.map(square_of_token, tokens, batch_size=max(1, BLOCK // wide)))

        return apply

    def summed(self, factor: jax.Array | None) -> jax.Array:
        """W c for each token: (..., V) -> (..., d); for ones, of shape (d,)."""
        if factor is None:
            return jnp.sum(self.matrix, axis=1)
        return factor @ self.matrix.T

    def picked(self, labels: jax.Array) -> jax.Array:
        """W[:, y] for each token: labels (..., 1) -> (..., d), zero for a label outside."""
        wide = self.matrix.shape[1]
        columns = jnp.take(self.matrix.T, jnp.clip(labels[..., 0], 0, wide - 1), axis=0)
        inside = (labels >= 0) & (labels < wide)
        return jnp.where(inside, columns, jnp.zeros_like(columns))
