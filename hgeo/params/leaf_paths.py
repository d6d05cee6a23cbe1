"""Paths of the leaves of a pytree, their keys joined by slashes, and slices of leaves."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.tree_util import GetAttrKey, keystr, tree_flatten_with_path

PyTree = Any

# The classes of NNX variables and of Linen's metadata boxes, by name so as not to import Flax.
_BOXES = {"Variable", "VariableState", "AxisMetadata"}


class LeafSlice(NamedTuple):
    """A slice of a leaf that holds the weights of several layers.

    It is an entry of a stack, as `nn.scan` builds them, `leaf[index]`; or a range along an axis,
    such as the queries' columns of a fused matrix, `leaf[:, index : index + size]`.

    Attributes:
      path: path of the leaf.
      index: the first position along the axis.
      axis: axis of the leaf, from 0, or below 0 from the last axis.
      size: the number of positions; `None` for a single position, which removes the axis.

    Example:
      >>> hgeo.LeafSlice("blocks/kernel", 2)
      LeafSlice(path='blocks/kernel', index=2, axis=0, size=None)
      >>> parts = {"q": hgeo.LeafSlice("kernel", 0, 1, 4), "k": hgeo.LeafSlice("kernel", 4, 1, 4)}
      >>> layers = hgeo.find_layers({"kernel": jnp.ones((4, 12))}, parts)
      >>> layers["k"].shapes
      ((4, 4),)
    """

    path: str
    index: int
    axis: int = 0
    size: int | None = None

    def __str__(self) -> str:
        """The path and the positions, as in a layer's name."""
        end = "" if self.size is None else f":{self.index + self.size}"
        before = ":, " * self.axis if self.axis >= 0 else "..., "
        after = ", :" * (-1 - self.axis) if self.axis < 0 else ""
        return f"{self.path}[{before}{self.index}{end}{after}]"

    @property
    def positions(self) -> range:
        """The positions along the axis."""
        return range(self.index, self.index + (1 if self.size is None else self.size))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the part lies in a leaf of a shape."""
        if not -len(shape) <= self.axis < len(shape) or not self.positions:
            return False
        return self.index >= 0 and self.positions[-1] < shape[self.axis]

    def shape_in(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The part's shape in a leaf of a shape."""
        axis = self.axis % len(shape)
        length = () if self.size is None else (self.size,)
        return (*shape[:axis], *length, *shape[axis + 1 :])

    def take(self, leaf: jax.Array) -> jax.Array:
        """The part of a leaf."""
        return leaf[self._where(leaf.ndim)]

    def put(self, leaf: jax.Array, part: jax.Array) -> jax.Array:
        """The leaf with the part replaced."""
        return leaf.at[self._where(leaf.ndim)].set(part)

    def position(self, index: Sequence[Any], ndim: int) -> tuple[Any, ...]:
        """The index in the leaf, of `ndim` axes, of an entry of the part."""
        axis = self.axis % ndim
        if self.size is None:
            return (*index[:axis], self.index, *index[axis:])
        return (*index[:axis], index[axis] + self.index, *index[axis + 1 :])

    def _where(self, ndim: int) -> tuple[Any, ...]:
        positions = self.index if self.size is None else slice(self.index, self.index + self.size)
        return (*[slice(None)] * (self.axis % ndim), positions)


LeafSpec: TypeAlias = str | LeafSlice


def path_of(part: LeafSpec) -> str:
    """The path of a part's leaf."""
    return part.path if isinstance(part, LeafSlice) else part


def overlap(first: LeafSpec, second: LeafSpec) -> bool:
    """Whether two parts share a weight; their axes must be 0 or more."""
    if path_of(first) != path_of(second):
        return False
    if not isinstance(first, LeafSlice) or not isinstance(second, LeafSlice):
        return True
    return first.axis != second.axis or bool(set(first.positions) & set(second.positions))


def spelled(parts: Iterable[LeafSpec]) -> str:
    """Parts of a layer in words, for an error."""
    return " with ".join(
        f"slice {str(part).removeprefix(part.path)[1:-1]} of {part.path!r}"
        if isinstance(part, LeafSlice)
        else f"leaf {part!r}"
        for part in parts
    )


def paths_and_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """(path, leaf) of every leaf, in the order of `jax.tree.leaves`.

    The paths omit the attribute `value` of a Flax variable or box: a leaf of `nnx.state(model)` is
    `dense/kernel`. Any other key called `value` stays in the path.
    """
    return [(_joined(keys[:-1] if cut else keys), leaf) for keys, cut, leaf in _flat(tree)]


def leaves_by_path(tree: PyTree) -> dict[str, Any]:
    """Every leaf by its path, in the order of `jax.tree.leaves`.

    Raises:
      ValueError: two leaves have the same path, such as {"a": {"b": ...}} and {"a/b": ...}.
    """
    flat = paths_and_leaves(tree)
    by_path = dict(flat)
    if len(by_path) < len(flat):
        seen: dict[str, str] = {}
        for (path, _), (keys, _, _) in zip(flat, _flat(tree), strict=True):
            if path in seen:
                raise ValueError(
                    f"two leaves have one path, {path!r}: {seen[path]} and {keystr(keys)}; "
                    "rename a key"
                )
            seen[path] = keystr(keys)
    return by_path


def uncut_paths(tree: PyTree) -> list[str]:
    """The paths that include the `value` of Flax's variables, as Orbax saves them."""
    return [_joined(keys) for keys, _, _ in _flat(tree)]


def _flat(tree: PyTree) -> list[tuple[Any, bool, Any]]:
    """(keys, whether the last key is the `value` of a Flax variable, leaf) of every leaf."""
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
