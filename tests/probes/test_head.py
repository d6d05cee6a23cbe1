"""Wide heads: exact in every form of cross-entropy, with G where it pays, never written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hgeo
from hgeo.probes.adjoint_weighted import AdjointWeighted
from hgeo.probes.head import Product
from tests.probes.dense import quick


def _log_softmax(logits, labels):
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], axis=-1))


def _integer_labels(logits, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _one_hot(logits, labels):
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - jnp.sum(targets * logits, axis=-1))


def _masked(logits, labels):
    each = optax.softmax_cross_entropy_with_integer_labels(1.5 * logits, labels)
    return jnp.sum(jnp.where(labels > 2, each, 0.0) ** 2)


def _squared(logits, labels):
    return jnp.mean((logits - labels[..., None].astype(logits.dtype)) ** 2)


def _smoothed(logits, labels):
    log_p = jax.nn.log_softmax(logits)
    return _log_softmax(logits, labels) - 0.1 * jnp.mean(log_p)


def _entropy(logits, labels):
    p = jax.nn.softmax(logits)
    return _integer_labels(logits, labels) + jnp.mean(jnp.sum(p * jnp.log(p), axis=-1))


def _outside(logits, labels):
    return -jnp.sum(
        jnp.take_along_axis(
            jnp.tanh(logits), labels[..., None] + 4, axis=-1, mode="fill", fill_value=0.0
        )
    )


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(
    ("head", "folds"),
    [
        (_log_softmax, True),
        (_integer_labels, True),
        (_one_hot, True),
        (_masked, True),
        (_squared, True),
        (_smoothed, True),
        (_entropy, False),
        (_outside, True),
    ],
)
def test_a_wide_head_is_exact(head, folds, few, monkeypatch):
    with_gram = []
    monkeypatch.setattr(
        Product,
        "_with_gram",
        lambda *given, own=Product._with_gram: with_gram.append(own(*given)) or with_gram[-1],
    )
    # A width that PIECES does not divide, and more tokens than a block holds.
    monkeypatch.setattr("hgeo.probes.head.BLOCK", 200)
    with jax.enable_x64(True):
        assert _check(head, 1 if few else 12) == [folds, folds, False]
        assert bool(with_gram) == (folds and not few)


def _check(head, num):
    """Holds every layer to forward over reverse; says in which the logits are never made."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = {
        "w1": jax.random.normal(keys[0], (3, 9)),
        "w2": jax.random.normal(keys[1], (9, 9)),
        "w3": jax.random.normal(keys[2], (9, 60)),
    }
    batch = {"x": jax.random.normal(keys[3], (2, 4, 3)), "y": jnp.arange(8).reshape(2, 4)}
    coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), num, jax.random.key(1))

    def loss(params, batch):
        hidden = jnp.tanh(jnp.tanh(batch["x"] @ params["w1"]) @ params["w2"])
        return head(hidden @ params["w3"], batch["y"])

    found, expected = (
        quick(
            lambda p, b, mode=mode: hgeo.sampled_diagonal(
                loss, p, b, coordinates, mode=mode, chunk_size=2
            )
        )(params, batch)
        for mode in ("adjoint_weighted", "forward_over_reverse")
    )
    for name in coordinates:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12, rtol=1e-10)
    forms = AdjointWeighted(lambda p: loss(p, batch), params, coordinates)
    return [bool(sweep._folded) for sweep, _ in forms._first.values()]


def _flattened(logits, labels):
    return _integer_labels(logits.reshape(-1, 60), labels.reshape(-1))


def _flattened_and_scaled(logits, labels):
    return _masked(2.0 - 0.7 * logits.reshape(-1, 2, 60), labels.reshape(-1, 2))


def _curved_and_flattened(logits, labels):
    # Two paths, one of them through a factor that differs from entry to entry.
    capped = 2.0 * jnp.tanh(logits / 2.0)
    return _flattened(capped, labels) + _squared(capped[:, 1:], labels[:, 1:])


def _next_token(logits, labels):
    return _log_softmax(logits[:, :-1:2], labels[:, 1::2])


def _time_first(logits, labels):
    return _smoothed(logits.transpose(1, 0, 2), labels.T)


def _one_token(logits, labels):
    return _integer_labels(logits[:, 2:3].squeeze(1), labels[:, 2])


def _two_orders(logits, labels):
    return _flattened(logits, labels) * _time_first(logits, labels)


def _other_rows(logits, labels):
    return _entropy(logits.reshape(-1, 30), labels.reshape(-1).repeat(2))


def _some_entries(logits, labels):
    return _integer_labels(logits[..., 10:], labels)


def _vocabulary_first(logits, labels):
    p = jnp.exp(0.1 * logits.transpose(2, 0, 1))
    return jnp.mean(p * labels[None].astype(p.dtype))


@pytest.mark.parametrize(
    ("head", "folds"),
    [
        (_flattened_and_scaled, True),
        (_curved_and_flattened, True),
        (_next_token, True),
        (_one_token, True),
        (_two_orders, True),
        (_other_rows, False),
        (_some_entries, False),
        (_vocabulary_first, False),
    ],
)
def test_a_wide_head_whose_tokens_are_moved_is_exact(head, folds):
    with jax.enable_x64(True):
        assert _check(head, 12) == [folds, folds, False]


@pytest.mark.parametrize("order", [["w1", "w2"], ["w2", "w1"]])
def test_layers_with_other_paths_to_the_logits_do_not_share_their_form(order):
    """w1 reaches the exponential past the wide product too, w2 through it alone."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 5)
        params = {
            "w1": 0.5 * jax.random.normal(keys[0], (3, 4)),
            "w2": 0.5 * jax.random.normal(keys[1], (4, 4)),
        }
        wide = 0.5 * jax.random.normal(keys[2], (4, 9))
        past = 0.3 * jax.random.normal(keys[3], (4, 9))
        x = jax.random.normal(keys[4], (6, 3))

        def loss(params, x):
            hidden = jnp.tanh(x @ params["w1"])
            logits = jnp.tanh(hidden @ params["w2"]) @ wide
            both = jnp.exp(0.3 * (logits + jnp.tanh(hidden) @ past))
            return jnp.mean(jnp.sum(logits**2, axis=-1)) + jnp.mean(jnp.sum(both, axis=-1))

        layers = hgeo.find_layers(params, order)
        coordinates = hgeo.sample_coordinates(layers, 12, jax.random.key(1))
        found, expected = (
            hgeo.sampled_diagonal(loss, params, x, coordinates, mode=mode)
            for mode in ("adjoint_weighted", "forward_over_reverse")
        )
        for name in coordinates:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-12, rtol=1e-10)
