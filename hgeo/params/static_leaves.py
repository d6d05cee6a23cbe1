"""Static leaves: the leaves of a pytree that are not arrays, such as an activation function.

JAX's transformations take arrays only. So hgeo wraps functions, strings and enums into nodes
without children, which belong to the tree's structure, and unwraps them to call the loss.
"""

import enum
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

PyTree = Any


@jax.tree_util.register_static
class StaticLeaf:
    """A leaf that is not an array, as a node without children.

    Two of them are equal if they hold the same object, or hashable objects that are equal.
    """

    def __init__(self, value: Any):
        """Holds the leaf."""
        self.value = value

    def __eq__(self, other: Any) -> bool:  # noqa: D105 - as the class says
        if not isinstance(other, StaticLeaf):
            return NotImplemented
        mine, its = self.value, other.value
        alike = type(mine) is type(its) and _can_be_hashed(mine) and _can_be_hashed(its)
        return mine is its or (alike and bool(mine == its))

    def __hash__(self) -> int:  # noqa: D105 - as the class says
        return hash(self.value) if _can_be_hashed(self.value) else id(self.value)

    def __repr__(self) -> str:  # noqa: D105 - for JAX's errors about tree structures
        return f"StaticLeaf({self.value!r})"


def hold(tree: PyTree, name: str) -> PyTree:
    """The tree with every leaf that is not an array wrapped in a `StaticLeaf`.

    Python's bools and whole numbers are static in params, as a module's settings are, and arrays in
    a batch.

    Args:
      tree: any pytree.
      name: of the argument, `"params"` or `"batch"`.

    Raises:
      ValueError: an array of strings or objects.
    """
    is_setting = lambda leaf: name == "params" and isinstance(leaf, (bool, int))
    stays = lambda leaf: is_array(leaf) and not is_setting(leaf)
    if all(map(stays, jax.tree.leaves(tree))):
        return tree
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSU":
            path = jax.tree_util.keystr(keys, simple=True, separator="/")
            raise ValueError(
                f"{name} has an array of dtype {leaf.dtype} at {path!r}; an array must hold numbers"
            )
    return jax.tree.map(lambda leaf: leaf if stays(leaf) else StaticLeaf(leaf), tree)


def release(tree: PyTree) -> PyTree:
    """The tree with the leaves that `hold` wrapped unwrapped again."""
    return jax.tree.map(
        lambda leaf: leaf.value if isinstance(leaf, StaticLeaf) else leaf, tree, is_leaf=_is_held
    )


def without(tree: PyTree) -> PyTree:
    """The tree with `None` for each static leaf, as `equinox.filter` returns it."""
    return jax.tree.map(
        lambda leaf: None if isinstance(leaf, StaticLeaf) else leaf, tree, is_leaf=_is_held
    )


def released(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of trees from `hold`; an argument that is no function is returned as it is."""
    return (lambda *trees: function(*map(release, trees))) if callable(function) else function


def held(
    loss: Callable[..., Any], params: PyTree, batch: PyTree
) -> tuple[Callable[..., Any], PyTree, PyTree]:
    """A loss and its arguments, with all leaves that are not arrays made static.

    Args:
      loss: `loss(params, batch)`.
      params: any pytree.
      batch: the same.
    """
    params, batch = hold(params, "params"), hold(batch, "batch")
    nodes = jax.tree.leaves((params, batch), is_leaf=_is_held)
    return (released(loss) if any(map(_is_held, nodes)) else loss), params, batch


def is_array(leaf: Any) -> bool:
    """Whether JAX accepts a leaf as an array: an array, its shape, or a number that is no enum."""
    if isinstance(leaf, enum.Enum):
        return False
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.dtype.kind not in "OSU"
    has_shape = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    return has_shape or isinstance(leaf, (bool, int, float, complex))


def _is_held(node: Any) -> bool:
    return isinstance(node, StaticLeaf)


def _can_be_hashed(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
