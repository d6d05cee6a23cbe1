"""Points in chunks and batches in pieces, where the last is not full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.batching import averaged
from hgeo.second_order.chunking import mapped


@pytest.mark.parametrize("num", [1, 10, 11])
def test_each_point_has_one_result(num):
    points = jnp.arange(1.0, num + 1)
    found = mapped(lambda x: {"square": x**2}, points, most=4)["square"]
    np.testing.assert_array_equal(found, points**2)


def test_a_mean_over_unequal_pieces_counts_each_example_once():
    batch = jnp.array([1.0, 2.0, 3.0, 4.0, 10.0])
    mean = lambda params, batch: params * jnp.mean(batch)
    gradient = lambda total, params, piece: jax.grad(total)(params)
    for size in (None, 2, 3, 5):
        found = averaged(gradient, mean, jnp.float32(7.0), batch, microbatch_size=size)
        np.testing.assert_allclose(found, 4.0)
