"""Layers of the Transformers: initialisers, positions, attention, feed-forward blocks.

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
        `"torch"`, PyTorch's default for that matrix.
      gain: factor of Xavier's standard deviation; must be 1 with `"torch"`.
      torch_default: PyTorch's default for it: `"linear"`, U(±1/√fan_in), or `"xavier"` (the
        in-projections of attention, and every matrix of `nn.Transformer`).

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


def attend(q_BxTxD, k_BxSxD, v_BxSxD, num_heads: int, mask_BxTxS, drop=lambda weights: weights):
    """Scaled dot-product attention by heads, to the positions where the mask is True.

    The mask is a large finite number and not −inf, so that derivatives of every order exist; a row
    without such positions gives the mean of the values, not NaN. `drop` is applied to the
    attention weights.
    """
    split = lambda x: x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)
    q, k, v = split(q_BxTxD), split(k_BxSxD), split(v_BxSxD)
    scores_BxHxTxS = jnp.einsum("bthk,bshk->bhts", q / math.sqrt(q.shape[-1]), k)
    scores_BxHxTxS = jnp.where(mask_BxTxS[:, None], scores_BxHxTxS, jnp.finfo(q.dtype).min)
    weights_BxHxTxS = drop(jax.nn.softmax(scores_BxHxTxS))
    out = jnp.einsum("bhts,bshk->bthk", weights_BxHxTxS, v)
    return out.reshape(q_BxTxD.shape)


def check_heads(width: int, num_heads: int) -> None:
    """Raises an `InputError` where a width can't be split evenly into heads."""
    if num_heads < 1 or width % num_heads:
        raise InputError(
            "model.width must be a multiple of model.num_heads, but they are "
            f"{width} and {num_heads}"
        )


def attended(module, q_BxTxD, k_BxSxD, v_BxSxD, mask_BxTxS, deterministic: bool):
    """`attend` and the out-projection, with the settings of the calling attention module."""
    drop = nn.Dropout(module.dropout, deterministic=deterministic)
    out = attend(q_BxTxD, k_BxSxD, v_BxSxD, module.num_heads, mask_BxTxS, drop)
    out_init = kernel_init(module.initializer, module.gain, module.out_default)
    return nn.Dense(out.shape[-1], name="out_proj", kernel_init=out_init)(out)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused in-projection, as PyTorch's."""

    num_heads: int
    initializer: str
    gain: float
    dropout: float = 0.0
    out_default: str = "linear"

    @nn.compact
    def __call__(self, x_BxTxD, mask_BxTxS, deterministic: bool = True):
        """(B, T, D), (B, T, T) -> (B, T, D)."""
        width = x_BxTxD.shape[-1]
        in_init = kernel_init(self.initializer, self.gain, "xavier")
        qkv = nn.Dense(3 * width, name="in_proj", kernel_init=in_init)(x_BxTxD)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        return attended(self, q, k, v, mask_BxTxS, deterministic)


class FusedProjection(nn.Module):
    """One D × 3D kernel: its first third multiplies the queries' side, the rest the memory."""

    kernel_init: Initializer

    @nn.compact
    def __call__(self, x_BxTxD, memory_BxSxD):
        """(B, T, D), (B, S, D) -> queries (B, T, D), keys and values (B, S, D)."""
        width = x_BxTxD.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (width, 3 * width), jnp.float32)
        bias_3D = self.param("bias", nn.initializers.zeros, (3 * width,), jnp.float32)
        bias_1x1x3D = bias_3D[None, None]
        q = x_BxTxD @ kernel[:, :width] + bias_1x1x3D[..., :width]
        kv = memory_BxSxD @ kernel[:, width:] + bias_1x1x3D[..., width:]
        return q, *jnp.split(kv, 2, axis=-1)


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another, with one fused in-projection."""

    num_heads: int
    initializer: str
    gain: float
    dropout: float = 0.0
    out_default: str = "linear"

    @nn.compact
    def __call__(self, x_BxTxD, memory_BxSxD, mask_BxTxS, deterministic: bool = True):
        """(B, T, D), (B, S, D), (B, T, S) -> (B, T, D)."""
        in_init = kernel_init(self.initializer, self.gain, "xavier")
        q, k, v = FusedProjection(in_init, name="in_proj")(x_BxTxD, memory_BxSxD)
        return attended(self, q, k, v, mask_BxTxS, deterministic)


def feed_forward(x_BxTxD, ffn_width: int, drop, initializer: str, gain: float, default: str):
    """linear2(drop(relu(linear1(x)))), its two layers in the block that calls it."""
    width = x_BxTxD.shape[-1]
    dense = lambda features, name, fan_in: nn.Dense(
        features,
        name=name,
        kernel_init=kernel_init(initializer, gain, default),
        bias_init=uniform_init(1 / math.sqrt(fan_in)),
    )
    hidden = drop(jax.nn.relu(dense(ffn_width, "linear1", width)(x_BxTxD)))
    return dense(width, "linear2", ffn_width)(hidden)


class EncoderBlock(nn.Module):
    """A post-LN Transformer block: x = LN(x + attention(x)), x = LN(x + FFN(x)), with ReLU.

    Dropout acts, as in PyTorch, on the attention weights, both residual branches and the hidden
    units. `default` is what `initializer="torch"` means for its matrices (`kernel_init`).
    """

    num_heads: int
    ffn_width: int
    dropout: float
    initializer: str
    gain: float
    default: str = "linear"

    @nn.compact
    def __call__(self, x_BxTxD, mask_BxTxS, deterministic: bool):
        """(B, T, D), (B, T, T) -> (B, T, D)."""
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, name=name)
        scheme = (self.initializer, self.gain)

        attention = SelfAttention(
            self.num_heads, *scheme, self.dropout, self.default, name="attention"
        )
        x = norm("norm1")(x_BxTxD + drop(attention(x_BxTxD, mask_BxTxS, deterministic)))
        hidden = feed_forward(x, self.ffn_width, drop, *scheme, self.default)
        return norm("norm2")(x + drop(hidden))


class DecoderBlock(nn.Module):
    """A post-LN decoder block: self-attention, attention to the memory, then the FFN, with ReLU."""

    num_heads: int
    ffn_width: int
    dropout: float
    initializer: str
    gain: float
    default: str = "linear"

    @nn.compact
    def __call__(self, x_BxTxD, memory_BxSxD, mask_BxTxT, memory_mask_BxTxS, deterministic: bool):
        """(B, T, D), (B, S, D) and their masks -> (B, T, D)."""
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, name=name)
        scheme = (self.initializer, self.gain)
        heads = (self.num_heads, *scheme, self.dropout, self.default)

        attention = SelfAttention(*heads, name="self_attention")
        x = norm("norm1")(x_BxTxD + drop(attention(x_BxTxD, mask_BxTxT, deterministic)))
        attention = CrossAttention(*heads, name="cross_attention")
        x = norm("norm2")(x + drop(attention(x, memory_BxSxD, memory_mask_BxTxS, deterministic)))
        hidden = feed_forward(x, self.ffn_width, drop, *scheme, self.default)
        return norm("norm3")(x + drop(hidden))
