"""The small ResNet of the CIFAR-10 experiment: stages of 16, 32 and 64 channels.

Reference: He et al. Deep Residual Learning for Image Recognition. 2016; the code that the paper
names is https://github.com/yunjey/pytorch-tutorial, deep_residual_network.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from hgeo.models.layers import kernel_init, uniform_init


def convolution(channels: int, stride: int, name: str, initializer: str, gain: float) -> nn.Conv:
    """A 3×3 convolution without bias, padded by one on each side as in PyTorch."""
    return nn.Conv(
        channels,
        (3, 3),
        (stride, stride),
        padding=((1, 1), (1, 1)),
        use_bias=False,
        kernel_init=kernel_init(initializer, gain),
        name=name,
    )


class BasicBlock(nn.Module):
    """relu(BN(conv(relu(BN(conv(x))))) + x), x through a strided 3×3 shortcut and BN if resized."""

    channels: int
    stride: int
    initializer: str
    gain: float
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BxHxWxC, train: bool):
        """(B, H, W, C) -> (B, H/stride, W/stride, channels)."""
        conv = lambda stride, name: convolution(
            self.channels, stride, name, self.initializer, self.gain
        )
        norm = lambda name: batch_norm(train, self.axis_name, name)
        x = jax.nn.relu(norm("norm1")(conv(self.stride, "conv1")(x_BxHxWxC)))
        x = norm("norm2")(conv(1, "conv2")(x))
        if self.stride == 1 and x_BxHxWxC.shape[-1] == self.channels:
            return jax.nn.relu(x + x_BxHxWxC)
        shortcut = norm("shortcut_norm")(conv(self.stride, "shortcut")(x_BxHxWxC))
        return jax.nn.relu(x + shortcut)


def batch_norm(train: bool, axis_name: str | None, name: str) -> nn.BatchNorm:
    """BatchNorm with PyTorch's constants; see `ResNet` for what differs."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        axis_name=axis_name if train else None,
        use_fast_variance=False,
        name=name,
    )


class ResNet(nn.Module):
    """Stem, stages of basic blocks, mean over positions, classifier: 10 weight matrices by default.

    In training, BatchNorm takes the batch's statistics, over all devices of `axis_name` if it is
    given (parts of equal size), so that examples depend on each other. In evaluation it takes the
    running statistics of the collection `batch_stats`. They differ from PyTorch's in one respect:
    the running variance takes the batch's biased variance (÷ n), PyTorch's the unbiased one
    (÷ (n − 1)), n = B·H·W. Multiply each of the batch's variances by n/(n − 1) to compare.

    Attributes:
      num_classes: outputs.
      channels: of each stage; the stem has the first of them.
      blocks: basic blocks in each stage.
      initializer: of the weight matrices (`hgeo.models.layers.INITIALIZERS`).
      gain: factor of their standard deviation, for a Xavier initialiser.
      axis_name: the axis over which training statistics are taken, or `None`.
    """

    num_classes: int = 10
    channels: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, ...] = (1, 1, 1)
    initializer: str = "torch"
    gain: float = 1.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images_BxHxWxC, train: bool = False):
        """(B, H, W, 3) -> logits (B, num_classes).

        At 32×32 the last stage has 8×8 positions, so their mean is the original's average pool
        of 8. With `train`, apply it with `mutable=["batch_stats"]`.
        """
        scheme = (self.initializer, self.gain)
        x = convolution(self.channels[0], 1, "stem", *scheme)(images_BxHxWxC)
        x = jax.nn.relu(batch_norm(train, self.axis_name, "stem_norm")(x))
        for stage, (channels, count) in enumerate(zip(self.channels, self.blocks, strict=True)):
            for n in range(count):
                stride = 2 if stage > 0 and n == 0 else 1
                block = BasicBlock(
                    channels, stride, *scheme, self.axis_name, name=f"stage{stage + 1}_block{n}"
                )
                x = block(x, train)
        x_BxC = jnp.mean(x, axis=(1, 2))
        return nn.Dense(
            self.num_classes,
            kernel_init=kernel_init(*scheme),
            bias_init=uniform_init(1 / math.sqrt(self.channels[-1])),
            name="classifier",
        )(x_BxC)

    def layer_order(self) -> list[str]:
        """Paths of the weight matrices in PyTorch's parameter order; the classifier comes last."""
        order = ["stem/kernel"]
        for stage, count in enumerate(self.blocks):
            for n in range(count):
                names = ["conv1", "conv2"] + ["shortcut"] * (stage > 0 and n == 0)
                order += [f"stage{stage + 1}_block{n}/{name}/kernel" for name in names]
        return [*order, "classifier/kernel"]
