"""Gemma's Flax modules; those of gemma 3.0.0, which later releases keep behind TensorFlow.

`pip install --no-deps gemma==3.0.0`: what the package asks for beside it brings in TensorFlow, and
these modules use Flax alone.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from gemma import layers, modules

import hgeo
from tests.integration.zoo.inputs import cross_entropy, jiggled
from tests.probes.families import Case


class _Gemma(nn.Module):
    """An embedder, tied to the output, and two blocks, with every option of the architecture."""

    num_kv_heads: int

    @nn.compact
    def __call__(self, tokens):
        size = tokens.shape[1]
        embedder = modules.Embedder(9, 4)
        x = embedder.encode(tokens)
        positions = jnp.broadcast_to(jnp.arange(size), tokens.shape)
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((size, size), bool)), (len(tokens), size, size))
        for kind in (modules.AttentionType.LOCAL_SLIDING, modules.AttentionType.GLOBAL):
            block = modules.Block(
                num_heads=4,
                num_kv_heads=self.num_kv_heads,
                embed_dim=4,
                head_dim=2,
                hidden_dim=6,
                use_post_attn_norm=True,
                use_post_ffw_norm=True,
                attn_type=kind,
                query_pre_attn_scalar=0.7,
                transpose_gating_einsum=False,
                attn_logits_soft_cap=50.0,
                sliding_window_size=2,
                use_qk_norm=True,
            )
            _, x = block(x, positions, None, mask)
        logits = embedder.decode(layers.RMSNorm()(x))
        return 30.0 * jnp.tanh(logits / 30.0)


def _case(key, num_kv_heads):
    module = _Gemma(num_kv_heads)
    tokens = jax.random.randint(key, (2, 5), 0, 9)
    batch = {"x": tokens[:, :-1], "y": tokens[:, 1:]}
    params = jiggled(module.init(key, batch["x"]), key)
    loss = lambda params, batch: cross_entropy(module.apply(params, batch["x"]), batch["y"])
    return Case(loss, params, batch, hgeo.find_layers(params, "einsum|linear|input_embedding"))


def grouped_queries(key):
    """As Gemma 3: two key and value heads for four query heads."""
    return _case(key, 2)


def fused(key):
    """As Gemma 1: one projection of queries, keys and values, as many heads of each."""
    return _case(key, 4)


MODELS = {model.__name__: model for model in (grouped_queries, fused)}
