"""Paths: the name of each leaf of a pytree, its keys joined by slashes."""

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from jax.tree_util import GetAttrKey, keystr, tree_flatten_with_path

PyTree = Any

# By name, so that Flax need not be imported: an NNX variable, a box of Linen's metadata.
_BOXES = {"Variable", "VariableState", "AxisMetadata"}


class LeafSlice(NamedTuple):
    """One entry of a leaf that stacks the weights of several layers, as `nn.scan` makes them.

    Attributes:
      path: path of the stacked leaf.
      index: position along its leading axis.

    Example:
      >>> hgeo.LeafSlice("blocks/kernel", 2)
      LeafSlice(path='blocks/kernel', index=2)
    """

    path: str
    index: int

    def __str__(self) -> str:
        """The path and the index as they stand in a layer's name."""
        return f"{self.path}[{self.index}]"


LeafSpec: TypeAlias = str | LeafSlice


def path_of(part: LeafSpec) -> str:
    """The path of the leaf that a part is, or is a slice of."""
    return part.path if isinstance(part, LeafSlice) else part


def spelled(parts: Iterable[LeafSpec]) -> str:
    """Parts of a layer as an error says them."""
    return " with ".join(
        f"slice {part.index} of {part.path!r}" if isinstance(part, LeafSlice) else f"leaf {part!r}"
        for part in parts
    )


def paths_and_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """(path, leaf) of every leaf, in the order of `jax.tree.leaves`.

    The attribute `value` that holds the array of a Flax variable or box is not named: the leaf of
    `nnx.state(model)` is `dense/kernel`. Every other key called `value` is a name like any other.
    """
    return [(_joined(keys[:-1] if cut else keys), leaf) for keys, cut, leaf in _flat(tree)]


def leaves_by_path(tree: PyTree) -> dict[str, Any]:
    """Every leaf by its path, in the order of `jax.tree.leaves`.

    Raises:
      ValueError: two leaves have the same path, such as {"a": {"b": ...}} and {"a/b": ...}.
    """
    flat = paths_and_leaves(tree)
    found = dict(flat)
    if len(found) < len(flat):
        seen: dict[str, str] = {}
        for (path, _), (keys, _, _) in zip(flat, _flat(tree), strict=True):
            if path in seen:
                raise ValueError(
                    f"two leaves have one path, {path!r}: {seen[path]} and {keystr(keys)}; "
                    "rename a key, so that each leaf has a path of its own"
                )
            seen[path] = keystr(keys)
    return found


def uncut_paths(tree: PyTree) -> list[str]:
    """The paths with the `value` of Flax's variables, as Orbax saves them."""
    return [_joined(keys) for keys, _, _ in _flat(tree)]


def _flat(tree: PyTree) -> list[tuple[Any, bool, Any]]:
    """(keys, whether the last one is the `value` of a Flax variable, leaf)."""
    flat = []
    for keys, node in tree_flatten_with_path(tree, is_leaf=_is_box)[0]:
        if not _is_box(node):
            flat.append((keys, False, node))
            continue
        for inner, leaf in tree_flatten_with_path(node)[0]:
            flat.append((keys + inner, inner == (GetAttrKey("value"),), leaf))
    return flat


def _joined(keys: tuple[Any, ...]) -> str:
    return keystr(keys, simple=True, separator="/")


def _is_box(node: Any) -> bool:
    return any(
        kind.__name__ in _BOXES and kind.__module__.partition(".")[0] == "flax"
        for kind in type(node).__mro__
    )
