"""A layer's array as the matrix that maps its inputs to its outputs."""

import jax

# Flax's attention projects to heads × width of a head, with kernels of shape (in, heads, width).
_TO_HEADS = ("query/kernel", "key/kernel", "value/kernel")


def output_by_input(path: str, leaf: jax.Array) -> jax.Array:
    """The matrix W of shape (out, in) in y = W x, of a leaf of two or more dimensions.

    The leaf's path says which axes are outputs. Those of a `weight` (Equinox, PyTorch) come first.
    A Flax attention's `query`, `key` and `value` have all but the first. Any other leaf (`kernel`,
    `w`) has the last. A convolution's W maps a patch to the channels.
    """
    if path.rpartition("/")[2] == "weight":
        return leaf.reshape(leaf.shape[0], -1)
    if leaf.ndim == 3 and path.endswith(_TO_HEADS):
        return leaf.reshape(leaf.shape[0], -1).T
    return leaf.reshape(-1, leaf.shape[-1]).T
