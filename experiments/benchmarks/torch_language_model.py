"""The language model in PyTorch, as its tutorial writes it, for comparison with hgeo's own.

Reference: https://pytorch.org/tutorials/beginner/transformer_tutorial.html
"""

import math

import torch  # pyright: ignore[reportMissingImports]

from hgeo.models.layers import sinusoidal_positions


class TorchLanguageModel(torch.nn.Module):
    """`hgeo.models.transformer.LanguageModel` without dropout, from PyTorch's own modules."""

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        num_heads: int,
        ffn_width: int,
        num_blocks: int,
        length: int,
    ):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary_size, width)
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                width, num_heads, ffn_width, dropout=0.0, batch_first=True
            )
            for _ in range(num_blocks)
        )
        self.head = torch.nn.Linear(width, vocabulary_size)
        positions = torch.from_numpy(sinusoidal_positions(length, width))
        self.register_buffer("positions", positions, persistent=False)
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self, tokens_BxT):
        """Integers (B, T) -> logits (B, T, vocabulary_size)."""
        x = self.embedding(tokens_BxT) * math.sqrt(self.embedding.embedding_dim)
        x = x + self.positions
        # The fused attention kernels have no second derivative.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for block in self.blocks:
                x = block(x, src_mask=self.hidden)
        return self.head(x)


def parameter_names(num_blocks: int) -> dict[str, str]:
    """PyTorch's name of each parameter by Flax's path; kernels are transposed weights."""
    names = {"embedding/embedding": "embedding.weight"}
    for n in range(num_blocks):
        ours, theirs = f"block{n}", f"blocks.{n}"
        names |= {
            f"{ours}/attention/in_proj/kernel": f"{theirs}.self_attn.in_proj_weight",
            f"{ours}/attention/in_proj/bias": f"{theirs}.self_attn.in_proj_bias",
            f"{ours}/attention/out_proj/kernel": f"{theirs}.self_attn.out_proj.weight",
            f"{ours}/attention/out_proj/bias": f"{theirs}.self_attn.out_proj.bias",
        }
        for linear in ("linear1", "linear2"):
            names[f"{ours}/{linear}/kernel"] = f"{theirs}.{linear}.weight"
            names[f"{ours}/{linear}/bias"] = f"{theirs}.{linear}.bias"
        for norm in ("norm1", "norm2"):
            names[f"{ours}/{norm}/scale"] = f"{theirs}.{norm}.weight"
            names[f"{ours}/{norm}/bias"] = f"{theirs}.{norm}.bias"
    return names | {"head/kernel": "head.weight", "head/bias": "head.bias"}
