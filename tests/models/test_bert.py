"""BERT's logits, which skip what they do not depend on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hgeo.models.bert import Bert


def test_the_logits_are_those_of_all_hidden_states():
    model = Bert(11, 2, 8, 2, 12, 2, 6, initializer_std=0.5)
    tokens = jax.random.randint(jax.random.key(0), (3, 6), 0, 11)
    mask = jnp.asarray(np.tri(6, dtype=bool)[[5, 3, 0]])
    params = model.init(jax.random.key(1), tokens)
    logits = np.asarray(model.apply(params, tokens, mask))

    hidden, pooled = model.apply(params, tokens, mask, method="encode")
    assert np.shape(hidden) == (3, 6, 8)
    whole = nn.Dense(2).apply({"params": params["params"]["classifier"]}, pooled)
    np.testing.assert_allclose(logits, np.asarray(whole), rtol=1e-5)
    assert np.ptp(logits) > 0.1


def test_the_last_block_computes_one_position_for_the_logits():
    model = Bert(11, 2, 8, 2, 12, 1, 6)
    tokens = jnp.zeros((1, 6), jnp.int32)
    params = model.init(jax.random.key(0), tokens)
    program = str(jax.make_jaxpr(model.apply)(params, tokens))
    assert "f32[1,1,12]" in program  # the hidden units of the feed-forward layer
    assert "f32[1,6,12]" not in program
