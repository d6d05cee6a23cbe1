"""BERT with a pooler and a classifier, in its Hugging Face form.

Reference: Devlin et al. BERT: Pre-training of Deep Bidirectional Transformers. 2019.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from hgeo.errors import InputError
from hgeo.models.layers import attend, check_heads

EPSILON = 1e-12


class BertBlock(nn.Module):
    """A post-LN block with separate query, key and value kernels and exact (erf) GELU."""

    num_heads: int
    ffn_width: int
    dropout: float
    initializer_std: float

    @nn.compact
    def __call__(self, x_BxTxD, mask_BxTxT, deterministic: bool, num_outputs: int | None = None):
        """(B, T, D), (B, T, T) -> (B, T, D), or the first `num_outputs` positions of it."""
        width = x_BxTxD.shape[-1]
        init = nn.initializers.normal(self.initializer_std)
        dense = lambda features, name: nn.Dense(features, name=name, kernel_init=init)
        norm = lambda name: nn.LayerNorm(EPSILON, use_fast_variance=False, name=name)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)

        x, mask = x_BxTxD[:, :num_outputs], mask_BxTxT[:, :num_outputs]
        inputs = {"query": x, "key": x_BxTxD, "value": x_BxTxD}
        q, k, v = (dense(width, name)(value) for name, value in inputs.items())
        context = attend(q, k, v, self.num_heads, mask, drop)
        x = norm("attention_norm")(x + drop(dense(width, "attention_output")(context)))
        hidden = jax.nn.gelu(dense(self.ffn_width, "intermediate")(x), approximate=False)
        return norm("output_norm")(x + drop(dense(width, "output")(hidden)))


class Bert(nn.Module):
    """Word, position and token-type embeddings, blocks, a tanh pooler of the first token, a head.

    BERT-small is 4 blocks of width 512 with 8 heads and 2,048 hidden units: about 28.8 million
    weights with 30,522 words.

    Attributes:
      vocabulary_size: rows of the word table.
      num_classes: outputs of the classifier.
      width: D.
      num_heads: heads of every attention; they divide `width`.
      ffn_width: hidden units of a block.
      num_blocks: blocks.
      max_length: rows of the position table, the longest sequence.
      num_types: rows of the token-type table.
      dropout: rate, after the embeddings, inside the blocks and before the classifier.
      initializer_std: matrices and embeddings are drawn from N(0, its square); biases are 0.
    """

    vocabulary_size: int
    num_classes: int = 2
    width: int = 512
    num_heads: int = 8
    ffn_width: int = 2048
    num_blocks: int = 4
    max_length: int = 512
    num_types: int = 2
    dropout: float = 0.0
    initializer_std: float = 0.02

    def setup(self):
        """Makes the layers; their names are the first parts of the params' paths."""
        check_heads(self.width, self.num_heads)
        init = nn.initializers.normal(self.initializer_std)
        embed = lambda rows: nn.Embed(rows, self.width, embedding_init=init)
        self.word_embedding = embed(self.vocabulary_size)
        self.position_embedding = embed(self.max_length)
        self.type_embedding = embed(self.num_types)
        self.embedding_norm = nn.LayerNorm(EPSILON, use_fast_variance=False)
        block = (self.num_heads, self.ffn_width, self.dropout, self.initializer_std)
        self.block = [BertBlock(*block) for _ in range(self.num_blocks)]
        self.pooler = nn.Dense(self.width, kernel_init=init)
        self.classifier = nn.Dense(self.num_classes, kernel_init=init)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, tokens_BxT, mask_BxT=None, types_BxT=None, deterministic: bool = True):
        """Integers (B, T) -> logits (B, num_classes).

        Args:
          tokens_BxT: tokens, the first of each sequence `[CLS]`.
          mask_BxT: true or 1 where there is a token, 0 at padding; `None`, tokens everywhere.
          types_BxT: token types; `None`, all 0.
          deterministic: without dropout; else the `dropout` rng is needed.

        Raises:
          InputError: the sequences are longer than the position table.
        """
        # The logits depend on the last block's first position alone.
        _, pooled_BxD = self.encode(tokens_BxT, mask_BxT, types_BxT, deterministic, 1)
        return self.classifier(self.drop(pooled_BxD, deterministic=deterministic))

    def encode(
        self,
        tokens_BxT,
        mask_BxT=None,
        types_BxT=None,
        deterministic: bool = True,
        num_outputs: int | None = None,
    ):
        """Integers (B, T) -> the last hidden states (B, T, D) and the pooled first one (B, D).

        With `num_outputs` the last block computes that many first positions alone.
        """
        length = tokens_BxT.shape[1]
        if length > self.max_length:
            raise InputError(
                f"sequences of {length} tokens don't fit the position table, whose length "
                f"(max_length) is {self.max_length}"
            )
        types_BxT = jnp.zeros_like(tokens_BxT) if types_BxT is None else types_BxT
        mask_BxT = jnp.ones_like(tokens_BxT) if mask_BxT is None else mask_BxT
        x = self.word_embedding(tokens_BxT) + self.type_embedding(types_BxT)
        x = x + self.position_embedding(jnp.arange(length))[None]
        x = self.drop(self.embedding_norm(x), deterministic=deterministic)
        mask_BxTxT = jnp.broadcast_to(mask_BxT.astype(bool)[:, None], (*tokens_BxT.shape, length))
        for place, block in enumerate(self.block, start=1):
            last = place == len(self.block)
            x = block(x, mask_BxTxT, deterministic, num_outputs if last else None)
        return x, jnp.tanh(self.pooler(x[:, 0]))

    def layer_order(self) -> list[str]:
        """Paths of the weight matrices in PyTorch's parameter order, six a block."""
        names = ("query", "key", "value", "attention_output", "intermediate", "output")
        blocks = [f"block_{n}/{name}/kernel" for n in range(self.num_blocks) for name in names]
        return [*blocks, "pooler/kernel", "classifier/kernel"]
