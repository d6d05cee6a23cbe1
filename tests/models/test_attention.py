"""What the Transformers share, against plain NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.models.layers import attend, sinusoidal_positions
from hgeo.models.transformer import LanguageModel

RNG = np.random.default_rng(0)


def test_attention_is_the_scaled_mean_of_the_values_by_heads():
    num_heads, width = 2, 3
    q, k, v = (RNG.normal(size=(1, n, num_heads * width)).astype(np.float32) for n in (2, 4, 4))
    mask = np.array([[[1, 1, 0, 1], [0, 1, 1, 1]]], bool)
    found = attend(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), num_heads, jnp.asarray(mask))
    for h in range(num_heads):
        own = slice(h * width, (h + 1) * width)
        for t in range(2):
            scores = k[0, :, own] @ q[0, t, own] / math.sqrt(width)
            weights = np.exp(scores) * mask[0, t]
            expected = weights @ v[0, :, own] / weights.sum()
            np.testing.assert_allclose(found[0, t, own], expected, rtol=1e-5)


def test_positions_are_sines_and_cosines_of_falling_frequencies():
    table = sinusoidal_positions(4, 5)
    for t in range(4):
        for column in range(5):
            angle = t / 10_000 ** (column // 2 * 2 / 5)
            wave = math.cos if column % 2 else math.sin
            assert math.isclose(table[t, column], wave(angle), abs_tol=1e-6)


def test_a_position_of_the_language_model_sees_its_past_alone():
    model = LanguageModel(7, width=4, num_heads=2, ffn_width=3, num_blocks=1)
    tokens = jnp.array([[1, 2, 3, 4]])
    params = model.init(jax.random.key(0), tokens)
    logits = jax.jit(model.apply)
    before, after = logits(params, tokens), logits(params, tokens.at[0, 2].set(5))
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (np.abs(before - after)[:, 2:].max(-1) > 1e-4).all()
