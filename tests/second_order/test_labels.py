"""Labels out of range, as padding has them, whose entries the loss masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from tests.probes.dense import dense_hessian, error

LABELS = np.array([0, -100, 3, 1])


def _focal(x, labels):
    log_p = jax.nn.log_softmax(x)
    own = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    own = jnp.where(labels >= 0, own, 0.0)
    return -jnp.mean((1 - jnp.exp(own)) ** 2 * own)


def _masked_first(x, labels):
    own = jnp.take_along_axis(jax.nn.softmax(x), labels[:, None], axis=1)[:, 0]
    own = jnp.where(labels >= 0, own, 1.0)
    return jnp.mean(jnp.where(labels >= 0, -jnp.log(own), 0.0))


def _of_logits(x, labels):
    own = jnp.take_along_axis(x, labels[:, None], axis=1)[:, 0]
    whole = jax.nn.logsumexp(x, axis=1)
    return jnp.mean((whole - jnp.where(labels >= 0, own, whole)) ** 2)


@pytest.mark.parametrize(
    ("head", "classes"), [(_focal, 4), (_focal, 30), (_masked_first, 30), (_of_logits, 4)]
)
def test_a_label_out_of_range_has_no_curvature(head, classes):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (4, 6))
        params = {"w": jax.random.normal(keys[1], (6, classes))}
        loss = lambda params, batch: head(batch[0] @ params["w"], batch[1])
        layers = hgeo.find_layers(params)
        coordinates = hgeo.sample_coordinates(layers, layers["w"].size, jax.random.key(1))
        assert hgeo.choose_mode(loss, params, (x, LABELS), coordinates).mode == "adjoint_weighted"
        found = hgeo.sampled_diagonal(loss, params, (x, LABELS), coordinates)["w"]
        dense = jnp.diagonal(dense_hessian(loss, params, (x, LABELS), layers["w"]))
        assert error(found, dense[coordinates["w"].indices]) < 1e-12
