"""The training loss and its gradient are those of the mean."""

import jax.numpy as jnp
import numpy as np

from hgeo.losses import Weighted, value_and_grad


def test_value_and_gradient_are_of_the_mean_over_the_weight():
    x, mask = np.array([1.0, 2.0, 5.0], np.float32), np.array([1.0, 0.0, 1.0], np.float32)

    def loss(w, batch):
        errors = (w - batch) ** 2
        return Weighted(jnp.sum(mask * errors), jnp.sum(mask)), "aux"

    value, gradient, aux = value_and_grad(loss, jnp.float32(2.0), x)
    assert (float(value), float(gradient), aux) == ((1 + 9) / 2, 2 * (1 - 3) / 2, "aux")
