"""Rows of the whole Hessian of a two-layer linear network with one output, in closed form.

The rows run over all weights, W_1 (h×d, in `ravel` order) and then W_2 (1×h). With the error
r = W_2 W_1 − A and w = W_2[0], the blocks of the Hessian of ½‖W_2 W_1 − A‖² are

    ∂²L/∂W_1[i,j]∂W_1[k,l] = w_i w_k δ_jl
    ∂²L/∂W_1[i,j]∂W_2[k]   = δ_ik r_j + w_i W_1[k,j]
    ∂²L/∂W_2[i]∂W_2[k]     = (W_1 W_1ᵀ)[i,k]
"""

import jax
import jax.numpy as jnp

from experiments.paper.linear.networks import Weights


def hidden_row(weights: Weights, target: jax.Array, i: int, j: int) -> jax.Array:
    """The row of W_1[i,j], shape (h·d + h,); `target` is A, shape (1, d)."""
    first, w, error = _parts(weights, target)
    own = jnp.zeros_like(first).at[:, j].set(w[i] * w)
    cross = (w[i] * first[:, j]).at[i].add(error[j])
    return jnp.concatenate([own.ravel(), cross])


def output_row(weights: Weights, target: jax.Array, i: int) -> jax.Array:
    """The row of W_2[i], shape (h·d + h,); `target` is A, shape (1, d)."""
    first, w, error = _parts(weights, target)
    cross = jnp.outer(w, first[i]).at[i].add(error)
    return jnp.concatenate([cross.ravel(), first @ first[i]])


def two_layer_r_diag(weights: Weights, target: jax.Array) -> jax.Array:
    """How little the whole Hessian's diagonal dominates each of its rows, without the Hessian.

        r_diag(i) = sqrt(Σ_{j≠i} H_ij²) / |H_ii|

    Args:
      weights: W_1, shape (h, d), and W_2, shape (1, h).
      target: A, shape (1, d).

    Returns:
      r_diag of all rows, shape (h·d + h,), W_1's first, in O(h²d) operations. A constant n×n matrix
      would give sqrt(n−1). A vanishing diagonal entry gives inf, or NaN with its row.

    Reference:
      Jiang, Malik, Li (2022), appendix E: the quantity of theorem 2.
    """
    first, w, error = _parts(weights, target)
    others = jnp.sum(w**2) - w**2  # Σ_{k≠i} w_k²
    column = jnp.sum(first**2, axis=0, keepdims=True)
    own_cross = error[None, :] + w[:, None] * first  # ∂²L/∂W_1[i,j]∂W_2[i]
    hidden = (w**2)[:, None] * (others[:, None] + column - first**2) + own_cross**2
    gram = first @ first.T
    norms = jnp.diagonal(gram)
    off_gram = jnp.fill_diagonal(gram, jnp.zeros((), gram.dtype), inplace=False)
    output = jnp.sum(off_gram**2, axis=1) + others * norms + jnp.sum(own_cross**2, axis=1)
    return jnp.concatenate([(jnp.sqrt(hidden) / (w**2)[:, None]).ravel(), jnp.sqrt(output) / norms])


def _parts(weights: Weights, target: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    first, second = weights
    return first, second[0], (second @ first - target)[0]
