"""Layers that the Transformers share: initialisers, positions, attention, feed-forward blocks.

Array names carry their axes: B examples, T positions, H heads, D width, K width of a head.
Everything is plain matrix products and elementwise functions, so that second derivatives exist.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hgeo.errors import InputError

Initializer = Callable[..., jax.Array]

INITIALIZERS = ("torch", "xavier_uniform", "xavier_normal")


def kernel_init(scheme: str, gain: float, torch_default: str = "linear") -> Initializer:
    """The initialiser of a weight matrix.

    Args:
      scheme: `"xavier_uniform"` or `"xavier_normal"`, of variance gain² · 2/(fan_in + fan_out), or
        `"torch"`, what PyTorch gives that matrix when nothing is asked for.
      gain: factor of Xavier's standard deviation; PyTorch's own scheme has none.
      torch_default: PyTorch's default for it: `"linear"`, U(±1/√fan_in), or `"xavier"` (the
        in-projections of attention).

    Raises:
      InputError: an unknown scheme, or a gain with `"torch"`.
    """
    if scheme not in INITIALIZERS:
        raise InputError(f"model.initializer must be one of {INITIALIZERS}, not {scheme!r}")
    if scheme == "torch":
        if gain != 1.0:
            raise InputError(
                f"model.gain must be 1.0 where model.initializer is 'torch', not {gain}"
            )
        if torch_default == "linear":
            return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        return nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
    distribution = "uniform" if scheme == "xavier_uniform" else "normal"
    return nn.initializers.variance_scaling(gain**2, "fan_avg", distribution)


def uniform_init(bound: float) -> Initializer:
    """U(−bound, bound)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def sinusoidal_positions(length: int, width: int) -> np.ndarray:
    """Vaswani et al.'s position table: sin in even columns, cos in odd ones, shape (T, D)."""
    position = np.arange(length)[:, None]
    frequency = np.exp(-math.log(10_000.0) * np.arange(0, width, 2) / width)[None, :]
    table = np.zeros((length, width), np.float32)
    table[:, 0::2] = np.sin(position * frequency)
    table[:, 1::2] = np.cos(position * frequency)[:, : width // 2]
    return table


def attend(q_BxTxD, k_BxSxD, v_BxSxD, num_heads: int, mask_BxTxS):
    """Scaled dot-product attention by heads; where the mask is False nothing is attended to."""
    split = lambda x: x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)
    q, k, v = split(q_BxTxD), split(k_BxSxD), split(v_BxSxD)
    scores_BxHxTxS = jnp.einsum("bthk,bshk->bhts", q / math.sqrt(q.shape[-1]), k)
    scores_BxHxTxS = jnp.where(mask_BxTxS[:, None], scores_BxHxTxS, jnp.finfo(q.dtype).min)
    weights_BxHxTxS = jax.nn.softmax(scores_BxHxTxS)
    out = jnp.einsum("bhts,bshk->bthk", weights_BxHxTxS, v)
    return out.reshape(q_BxTxD.shape)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused in-projection, as PyTorch's."""

    num_heads: int
    initializer: str
    gain: float

    @nn.compact
    def __call__(self, x_BxTxD, mask_BxTxS):
        """(B, T, D), (B, T, T) -> (B, T, D)."""
        width = x_BxTxD.shape[-1]
        in_init = kernel_init(self.initializer, self.gain, "xavier")
        qkv = nn.Dense(3 * width, name="in_proj", kernel_init=in_init)(x_BxTxD)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        out = attend(q, k, v, self.num_heads, mask_BxTxS)
        out_init = kernel_init(self.initializer, self.gain)
        return nn.Dense(width, name="out_proj", kernel_init=out_init)(out)


class EncoderBlock(nn.Module):
    """A post-LN Transformer block: x = LN(x + attention(x)), x = LN(x + FFN(x)), with ReLU."""

    num_heads: int
    ffn_width: int
    dropout: float
    initializer: str
    gain: float

    @nn.compact
    def __call__(self, x_BxTxD, mask_BxTxS, deterministic: bool):
        """(B, T, D), (B, T, T) -> (B, T, D)."""
        width = x_BxTxD.shape[-1]
        dense = lambda features, name, fan_in: nn.Dense(
            features,
            name=name,
            kernel_init=kernel_init(self.initializer, self.gain),
            bias_init=uniform_init(1 / math.sqrt(fan_in)),
        )
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, name=name)

        attention = SelfAttention(self.num_heads, self.initializer, self.gain, name="attention")
        x = norm("norm1")(x_BxTxD + drop(attention(x_BxTxD, mask_BxTxS)))
        hidden = drop(jax.nn.relu(dense(self.ffn_width, "linear1", width)(x)))
        return norm("norm2")(x + drop(dense(width, "linear2", self.ffn_width)(hidden)))
