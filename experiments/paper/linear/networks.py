"""Linear networks W_L ⋯ W_1 of any depth and width: loss, gradients and Hessian diagonals, exactly.

With whitened inputs (X Xᵀ = I) the mean squared loss of a linear network on data depends on the
weights through their product alone, so that L(W) = ½‖W_L ⋯ W_1 − A‖² up to a constant, with A the
best linear map. The input is counted as width 0: layer l is W_l of shape (widths[l], widths[l−1]).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hgeo.errors import InputError

Weights = tuple[jax.Array, ...]


def initial_weights(
    key: jax.Array, widths: Sequence[int], std: float, dtype=jnp.float32
) -> Weights:
    """Independent Gaussian weights of mean 0 and one standard deviation.

    Args:
      key: a typed PRNG key.
      widths: d_0, …, d_L, from the inputs to the outputs.
      std: standard deviation of every entry, ≥ 0.
      dtype: a floating dtype.

    Returns:
      W_1, …, W_L; W_l has shape (d_l, d_{l−1}).

    Raises:
      InputError: fewer than two widths, one below 1, or a negative std.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise InputError(f"widths takes two or more whole numbers from 1 up, not {tuple(widths)}")
    if std < 0:
        raise InputError(f"the initial standard deviation must not be negative, but is {std}")
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    keys = jax.random.split(key, len(shapes))
    return tuple(
        jnp.asarray(std, dtype) * jax.random.normal(k, shape, dtype)
        for k, shape in zip(keys, shapes, strict=True)
    )


def linear_loss(weights: Weights, target: jax.Array) -> jax.Array:
    """½‖W_L ⋯ W_1 − A‖², a scalar.

    Args:
      weights: W_1, …, W_L.
      target: A, shape (d_L, d_0).
    """
    return 0.5 * jnp.sum((product(weights) - target) ** 2)


def product(weights: Weights) -> jax.Array:
    """W_L ⋯ W_1, shape (d_L, d_0); from the left, which is cheap where there are few outputs."""
    result = weights[-1]
    for weight in reversed(weights[:-1]):
        result = result @ weight
    return result


def gradient_factors(weights: Weights, error: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Factors of every layer's gradient, whose rank is at most the number of outputs.

        ∂L/∂W_l = a_lᵀ b_l,    a_l = W_L ⋯ W_{l+1},    b_l = E (W_{l−1} ⋯ W_1)ᵀ

    Args:
      weights: W_1, …, W_L.
      error: E = ∂L/∂(W_L ⋯ W_1), shape (d_L, d_0); W_L ⋯ W_1 − A for `linear_loss`.

    Returns:
      (a_l, b_l) by layer, shapes (d_L, d_l) and (d_L, d_{l−1}).

    Reference:
      Arora, Cohen, Hazan (2018), on linear networks.
    """
    above = [jnp.eye(error.shape[0], dtype=error.dtype)]
    for weight in reversed(weights[1:]):
        above.append(above[-1] @ weight if len(above) > 1 else weight)
    below = [error]
    for weight in weights[:-1]:
        below.append(below[-1] @ weight.T)
    return list(zip(reversed(above), below, strict=True))


def diagonal_factors(weights: Weights) -> list[tuple[jax.Array, jax.Array]]:
    """Every layer's Hessian diagonal, as an outer product.

        ∂²L/∂W_l[a,b]² = (AᵀA)[a,a] · (B Bᵀ)[b,b],    A = W_L ⋯ W_{l+1},    B = W_{l−1} ⋯ W_1

    For two layers and one output: W_2[i]² for every weight of row i of W_1, and ‖W_1[i,:]‖² for
    W_2[i].

    Args:
      weights: W_1, …, W_L.

    Returns:
      By layer, the non-negative vectors diag(AᵀA), shape (d_l,), and diag(B Bᵀ), shape (d_{l−1},).
      They don't depend on the target.

    Reference:
      Jiang, Malik, Li (2022), lemma 29.
    """
    dtype = weights[0].dtype
    rows = [jnp.ones(weights[-1].shape[0], dtype)]
    above = None
    for weight in reversed(weights[1:]):
        above = weight if above is None else above @ weight
        rows.append(jnp.sum(above**2, axis=0))
    columns = [jnp.ones(weights[0].shape[1], dtype)]
    below = None
    for weight in weights[:-1]:
        below = weight if below is None else weight @ below
        columns.append(jnp.sum(below**2, axis=1))
    return list(zip(reversed(rows), columns, strict=True))


def hessian_diagonal(weights: Weights) -> tuple[jax.Array, ...]:
    """Every layer's whole Hessian diagonal, flat in `ravel` order; see `diagonal_factors`."""
    return tuple(jnp.outer(rows, columns).ravel() for rows, columns in diagonal_factors(weights))
