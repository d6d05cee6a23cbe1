"""Quantities recorded along a linear network's training, from the weights and their last update.

A measure is a pure function `(weights, updates, target) -> {name: array}`.
"""

import jax
import jax.numpy as jnp

from experiments.paper.linear.hessian_rows import two_layer_r_diag
from experiments.paper.linear.networks import Weights, diagonal_factors, linear_loss
from hgeo.statistics.r_med import r_med


def layer_r_med(weights: Weights) -> jax.Array:
    """R_med of every layer over all of its coordinates, shape (L,).

    Where one factor of the diagonal is constant (in the first and the last layer), the median of
    their outer product is the other's times it: no product is formed.
    """
    return jnp.stack(
        [
            r_med(rows) * r_med(columns)
            if layer in (0, len(weights) - 1)
            else r_med(jnp.outer(rows, columns).ravel())
            for layer, (rows, columns) in enumerate(diagonal_factors(weights))
        ]
    )


def r_med_of_layers(weights: Weights, updates: Weights, target: jax.Array) -> dict[str, jax.Array]:
    """`r_med`, shape (L,)."""
    return {"r_med": layer_r_med(weights)}


def mechanism(weights: Weights, updates: Weights, target: jax.Array) -> dict[str, jax.Array]:
    """R_med and its mechanism: how near W_1 is to rank one, and how alike its rows are.

    With v = (W_L ⋯ W_1)ᵀ normalised, the direction of the network's map (one output), and
    u = W_1 v:

    Returns:
      `r_med`, shape (L,);
      `rank_one_residual`, ‖W_1 − u vᵀ‖ / ‖W_1‖, at least that of the best matrix of rank 1;
      `spread`, the standard deviation of |u_i| over their mean: 0.756 for Gaussian u_i, 0 where all
      have one magnitude;
      `sign_agreement`, the mean over rows of |mean sign| of the last update of W_1: 1 where each
      row moved one way;
      `update_spread`, the standard deviation of that update's magnitudes over their mean.
    """
    first, update = weights[0], updates[0]
    v, u = leading_direction(weights)
    magnitude = jnp.abs(u)
    size = jnp.abs(update)
    return {
        "r_med": layer_r_med(weights),
        "rank_one_residual": jnp.sqrt(
            jnp.sum((first - u[:, None] * v[None, :]) ** 2) / jnp.sum(first**2)
        ),
        "spread": jnp.std(magnitude) / jnp.mean(magnitude),
        "sign_agreement": jnp.mean(jnp.abs(jnp.mean(jnp.sign(update), axis=1))),
        "update_spread": jnp.std(size) / jnp.mean(size),
    }


def r_diag(weights: Weights, updates: Weights, target: jax.Array) -> dict[str, jax.Array]:
    """Mean and median over the rows of a two-layer network's whole Hessian, and R_med."""
    rows = two_layer_r_diag(weights, target)
    return {
        "r_med": layer_r_med(weights),
        "r_diag_mean": jnp.mean(rows),
        "r_diag_median": jnp.median(rows),
    }


def dense_r_diag(weights: Weights, updates: Weights, target: jax.Array) -> dict[str, jax.Array]:
    """What `r_diag` gives, and the same from the dense Hessian by `jax.hessian`: small d only."""
    shapes = [weight.shape for weight in weights]
    sizes = [weight.size for weight in weights]

    def flat_loss(vector):
        parts = jnp.split(vector, [sizes[0]])
        return linear_loss(tuple(p.reshape(s) for p, s in zip(parts, shapes, strict=True)), target)

    hessian = jax.hessian(flat_loss)(jnp.concatenate([weight.ravel() for weight in weights]))
    diagonal = jnp.abs(jnp.diagonal(hessian))
    rows = jnp.sqrt(jnp.sum((hessian - jnp.diag(jnp.diagonal(hessian))) ** 2, axis=1)) / diagonal
    return {
        **r_diag(weights, updates, target),
        "dense_r_diag_mean": jnp.mean(rows),
        "dense_r_diag_median": jnp.median(rows),
    }


def leading_direction(weights: Weights) -> tuple[jax.Array, jax.Array]:
    """v, the unit vector along (W_L ⋯ W_1)ᵀ for one output, and u = W_1 v."""
    direction = weights[-1][0]
    for weight in reversed(weights[:-1]):
        direction = direction @ weight
    direction = direction / jnp.linalg.norm(direction)
    return direction, weights[0] @ direction


MEASURES = {
    "r_med": r_med_of_layers,
    "mechanism": mechanism,
    "r_diag": r_diag,
    "dense_r_diag": dense_r_diag,
}
