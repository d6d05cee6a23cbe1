"""The language model of the PyTorch tutorial "Language Modeling with nn.Transformer".

Reference: Vaswani et al. Attention Is All You Need. 2017;
https://pytorch.org/tutorials/beginner/transformer_tutorial.html
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from hgeo.models.layers import EncoderBlock, sinusoidal_positions, uniform_init


class LanguageModel(nn.Module):
    """A causal Transformer encoder: embedding × √D, sinusoidal positions, post-LN blocks, head.

    The tutorial copies its first block, so that all blocks start equal; here each is drawn
    independently.
    """

    vocabulary_size: int
    width: int
    num_heads: int
    ffn_width: int
    num_blocks: int
    dropout: float = 0.0
    initializer: str = "torch"
    gain: float = 1.0

    @nn.compact
    def __call__(self, tokens_BxT, deterministic: bool = True):
        """Integers (B, T) -> logits (B, T, vocabulary_size), each position seeing only its past."""
        length = tokens_BxT.shape[1]
        embed = nn.Embed(
            self.vocabulary_size, self.width, embedding_init=uniform_init(0.1), name="embedding"
        )
        x = embed(tokens_BxT) * math.sqrt(self.width)
        x = x + jnp.asarray(sinusoidal_positions(length, self.width), x.dtype)[None]
        x = nn.Dropout(self.dropout, deterministic=deterministic)(x)
        causal_1xTxT = jnp.tril(jnp.ones((length, length), bool))[None]
        for n in range(self.num_blocks):
            block = EncoderBlock(
                self.num_heads,
                self.ffn_width,
                self.dropout,
                self.initializer,
                self.gain,
                name=f"block{n}",
            )
            x = block(x, causal_1xTxT, deterministic)
        return nn.Dense(self.vocabulary_size, kernel_init=uniform_init(0.1), name="head")(x)

    def layer_order(self) -> list[str]:
        """Paths of the weight matrices in PyTorch's parameter order; the head comes last."""
        names = ("attention/in_proj", "attention/out_proj", "linear1", "linear2")
        blocks = [f"block{n}/{name}/kernel" for n in range(self.num_blocks) for name in names]
        return [*blocks, "head/kernel"]
