"""Wide heads are exact in every form of cross-entropy, with and without G."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hgeo
from hgeo.second_order.adjoint_weighted import adjoint_weighted
from hgeo.second_order.wide_product import WideProduct
from tests.probes.dense import entries_of, quick, slow


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
    """Of eight labels the last lies outside, where a zero is taken, which exp curves too."""
    picked = lambda x: jnp.take_along_axis(
        x, 9 * labels[..., None] + 4, axis=-1, mode="fill", fill_value=0.0
    )
    return -jnp.sum(picked(jnp.tanh(logits))) + jnp.sum(jnp.exp(picked(logits)))


FOLDING = (_log_softmax, _integer_labels, _one_hot, _masked, _squared, _smoothed, _outside)


@pytest.fixture
def with_gram(monkeypatch):
    """What was made with G, where a block holds fewer tokens than there are."""
    made = []
    own = WideProduct._with_gram
    monkeypatch.setattr(
        WideProduct, "_with_gram", lambda *given: made.append(own(*given)) or made[-1]
    )
    monkeypatch.setattr("hgeo.second_order.wide_product.BLOCK", 200)
    return made


@pytest.mark.parametrize("head", slow([*FOLDING, _entropy], (_integer_labels, _one_hot, _smoothed)))
def test_a_wide_head_is_exact(head, with_gram):
    folds = head is not _entropy
    assert _check(head, ["w1", "w2"], 12) == [folds, folds]
    assert bool(with_gram) == folds


@pytest.mark.parametrize(
    "head", slow((*FOLDING, _entropy), (_integer_labels, _one_hot, _smoothed, _squared, _entropy))
)
def test_a_wide_head_that_few_coordinates_share_is_exact(head, with_gram):
    """A case with the head's weights, whose tangents are always computed in the logits."""
    assert _check(head, ["w2", "w3"], 1) == [head is not _entropy, False]
    assert not with_gram


def _check(head, names, num):
    """Compares layers with nested derivatives; returns those whose ż is not computed."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        params = {
            "w1": jax.random.normal(keys[0], (3, 9)),
            "w2": jax.random.normal(keys[1], (9, 9)),
            "w3": jax.random.normal(keys[2], (9, 60)),
        }
        batch = {"x": jax.random.normal(keys[3], (2, 4, 3)), "y": jnp.arange(8).reshape(2, 4)}
        layers = hgeo.find_layers(params, names)
        coordinates = hgeo.sample_coordinates(layers, num, jax.random.key(1))

        def loss(params, batch):
            hidden = jnp.tanh(jnp.tanh(batch["x"] @ params["w1"]) @ params["w2"])
            return head(hidden @ params["w3"], batch["y"])

        probe = functools.partial(
            hgeo.sampled_diagonal, loss, mode="adjoint_weighted", chunk_size=2
        )
        both = quick(lambda p, b: (probe(p, b, coordinates), entries_of(loss, p, b, coordinates)))
        found, expected = both(params, batch)
        for name in coordinates:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-12, rtol=1e-10)
        forms = adjoint_weighted(lambda p: loss(p, batch), params, coordinates)
        return [bool(plan.folded) for plan, _ in forms._first.values()]


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


MOVED = (_flattened_and_scaled, _curved_and_flattened, _next_token, _one_token, _two_orders)


QUICKER_MOVED = (_curved_and_flattened, _next_token, _some_entries)
OTHER_MOVED = (
    *(head for head in MOVED if head not in QUICKER_MOVED),
    *(_other_rows, _vocabulary_first),
)


@pytest.mark.parametrize("head", slow((*QUICKER_MOVED, *OTHER_MOVED), OTHER_MOVED))
def test_a_wide_head_whose_tokens_are_moved_is_exact(head):
    assert _check(head, ["w2"], 12) == [head in MOVED]


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
        both = lambda p, x: (
            hgeo.sampled_diagonal(loss, p, x, coordinates, mode="adjoint_weighted"),
            entries_of(loss, p, x, coordinates),
        )
        found, expected = quick(both)(params, x)
        for name in coordinates:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-12, rtol=1e-10)
