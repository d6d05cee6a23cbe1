"""The encoder-decoder Transformer of the PyTorch tutorial "Language Translation".

Reference: Vaswani et al. Attention Is All You Need. 2017;
https://pytorch.org/tutorials/beginner/translation_transformer.html
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from hgeo.losses import Weighted
from hgeo.models.layers import (
    DecoderBlock,
    EncoderBlock,
    check_heads,
    kernel_init,
    sinusoidal_positions,
    uniform_init,
)


class Seq2Seq(nn.Module):
    """Embeddings × √D, sinusoidal positions, post-LN blocks, two final norms, a generator.

    No position attends to padding, and a target position sees only its past. The initialiser
    `"torch"` is the default of `nn.Transformer`, `nn.Embedding` and `nn.Linear`: Xavier in the
    blocks, N(0, 1) embeddings, U(±1/√D) in the generator. The tutorial uses Xavier in all matrices,
    embeddings and generator included: `"xavier_uniform"`. PyTorch copies the biases of its first
    block into the others; here each is drawn independently.

    Attributes:
      source_size: words of the source vocabulary.
      target_size: words of the target vocabulary.
      width: D.
      num_heads: heads of every attention; they divide `width`.
      ffn_width: hidden units of a block.
      num_encoder_blocks: blocks of the encoder.
      num_decoder_blocks: blocks of the decoder.
      dropout: rate, after the positions and inside the blocks.
      initializer: of the weight matrices (`hgeo.models.layers.INITIALIZERS`).
      gain: factor of their standard deviation, for a Xavier initialiser.
      pad_id: the token that is padding, in both languages.
    """

    source_size: int
    target_size: int
    width: int
    num_heads: int
    ffn_width: int
    num_encoder_blocks: int
    num_decoder_blocks: int
    dropout: float = 0.0
    initializer: str = "xavier_uniform"
    gain: float = 1.0
    pad_id: int = 1

    def setup(self):
        """Makes the layers; their names are the first parts of the params' paths."""
        check_heads(self.width, self.num_heads)
        generator_init = kernel_init(self.initializer, self.gain)
        embedding_init = nn.initializers.normal(1.0)
        if self.initializer != "torch":
            embedding_init = generator_init
        embed = lambda size: nn.Embed(size, self.width, embedding_init=embedding_init)
        self.source_embedding = embed(self.source_size)
        self.target_embedding = embed(self.target_size)
        block = (self.num_heads, self.ffn_width, self.dropout, self.initializer, self.gain)
        self.encoder = [EncoderBlock(*block, "xavier") for _ in range(self.num_encoder_blocks)]
        self.decoder = [DecoderBlock(*block, "xavier") for _ in range(self.num_decoder_blocks)]
        self.encoder_norm = nn.LayerNorm(epsilon=1e-5)
        self.decoder_norm = nn.LayerNorm(epsilon=1e-5)
        self.generator = nn.Dense(
            self.target_size,
            kernel_init=generator_init,
            bias_init=uniform_init(1 / math.sqrt(self.width)),
        )
        self.input_dropout = nn.Dropout(self.dropout)

    def __call__(self, source_BxS, target_BxT, deterministic: bool = True):
        """Integers (B, S), (B, T) -> logits (B, T, target_size) of the token after each target's.

        Args:
          source_BxS: the source sentences, padded.
          target_BxT: the target sentences without their last token, padded.
          deterministic: without dropout; else the `dropout` rng is needed.
        """
        memory_BxSxD = self.encode(source_BxS, deterministic)
        return self.decode(target_BxT, memory_BxSxD, source_BxS, deterministic)

    def encode(self, source_BxS, deterministic: bool = True):
        """Integers (B, S) -> the memory (B, S, D)."""
        x = self._embed(self.source_embedding, source_BxS, deterministic)
        mask_Bx1xS = (source_BxS != self.pad_id)[:, None]
        mask_BxSxS = jnp.broadcast_to(mask_Bx1xS, (*x.shape[:2], x.shape[1]))
        for block in self.encoder:
            x = block(x, mask_BxSxS, deterministic)
        return self.encoder_norm(x)

    def decode(self, target_BxT, memory_BxSxD, source_BxS, deterministic: bool = True):
        """Targets (B, T), memory (B, S, D) and its source (B, S) -> logits (B, T, target_size)."""
        x = self._embed(self.target_embedding, target_BxT, deterministic)
        length = target_BxT.shape[1]
        causal_1xTxT = jnp.tril(jnp.ones((length, length), bool))[None]
        mask_BxTxT = causal_1xTxT & (target_BxT != self.pad_id)[:, None]
        memory_mask_BxTxS = jnp.broadcast_to(
            (source_BxS != self.pad_id)[:, None], (*target_BxT.shape, source_BxS.shape[1])
        )
        for block in self.decoder:
            x = block(x, memory_BxSxD, mask_BxTxT, memory_mask_BxTxS, deterministic)
        return self.generator(self.decoder_norm(x))

    def _embed(self, embedding, tokens_BxT, deterministic):
        x = embedding(tokens_BxT) * math.sqrt(self.width)
        positions_TxD = sinusoidal_positions(tokens_BxT.shape[1], self.width)
        x = x + jnp.asarray(positions_TxD, x.dtype)[None]
        return self.input_dropout(x, deterministic=deterministic)

    def layer_order(self) -> list[str]:
        """Paths of the weight matrices in PyTorch's parameter order; the generator comes last."""
        encoder = ("attention/in_proj", "attention/out_proj", "linear1", "linear2")
        decoder = (
            *("self_attention/in_proj", "self_attention/out_proj"),
            *("cross_attention/in_proj", "cross_attention/out_proj"),
            *("linear1", "linear2"),
        )
        return [
            *(f"encoder_{n}/{k}/kernel" for n in range(self.num_encoder_blocks) for k in encoder),
            *(f"decoder_{n}/{k}/kernel" for n in range(self.num_decoder_blocks) for k in decoder),
            "generator/kernel",
        ]


def token_loss(logits_BxTxV: jax.Array, targets_BxT: jax.Array, pad_id: int) -> Weighted:
    """Cross-entropy summed over the targets that are not padding, and their number.

    Args:
      logits_BxTxV: scores of each next token.
      targets_BxT: the next tokens.
      pad_id: the target without weight.
    """
    losses_BxT = optax.softmax_cross_entropy_with_integer_labels(logits_BxTxV, targets_BxT)
    weights_BxT = (targets_BxT != pad_id).astype(losses_BxT.dtype)
    return Weighted(jnp.sum(losses_BxT * weights_BxT), jnp.sum(weights_BxT))
