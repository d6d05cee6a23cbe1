"""Paths: the name of each leaf of a pytree, its keys joined by slashes."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.tree_util import GetAttrKey, keystr, tree_flatten_with_path

PyTree = Any

# By name, so that Flax need not be imported: an NNX variable, a box of Linen's metadata.
_BOXES = {"Variable", "VariableState", "AxisMetadata"}


class LeafSlice(NamedTuple):
    """A part of a leaf that holds the weights of several layers.

    One entry of a stack, as `nn.scan` makes them, `leaf[index]`; or a range along an axis, such as
    the columns of the queries in a fused matrix, `leaf[:, index : index + size]`.

    Attributes:
      path: path of the leaf.
      index: position along the axis, of the first of `size`.
      axis: of the leaf, from 0; below 0 from its last one.
      size: how many positions; `None` for one, without which the part has one axis less.

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
        """The path and the positions as they stand in a layer's name."""
        end = "" if self.size is None else f":{self.index + self.size}"
        before = ":, " * self.axis if self.axis >= 0 else "..., "
        after = ", :" * (-1 - self.axis) if self.axis < 0 else ""
        return f"{self.path}[{before}{self.index}{end}{after}]"

    @property
    def positions(self) -> range:
        """Those along the axis."""
        return range(self.index, self.index + (1 if self.size is None else self.size))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the part lies in a leaf of a shape."""
        if not -len(shape) <= self.axis < len(shape) or not self.positions:
            return False
        return self.index >= 0 and self.positions[-1] < shape[self.axis]

    def shape_in(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The part's shape in a leaf of a shape."""
        axis = self.axis % len(shape)
        own = () if self.size is None else (self.size,)
        return (*shape[:axis], *own, *shape[axis + 1 :])

    def take(self, leaf: jax.Array) -> jax.Array:
        """The part of a leaf."""
        return leaf[self._where(leaf.ndim)]

    def put(self, leaf: jax.Array, part: jax.Array) -> jax.Array:
        """The leaf with the part replaced."""
        return leaf.at[self._where(leaf.ndim)].set(part)

    def position(self, index: Sequence[Any], ndim: int) -> tuple[Any, ...]:
        """Where an entry of the part lies in the leaf, of `ndim` axes."""
        axis = self.axis % ndim
        if self.size is None:
            return (*index[:axis], self.index, *index[axis:])
        return (*index[:axis], index[axis] + self.index, *index[axis + 1 :])

    def _where(self, ndim: int) -> tuple[Any, ...]:
        own = self.index if self.size is None else slice(self.index, self.index + self.size)
        return (*[slice(None)] * (self.axis % ndim), own)


LeafSpec: TypeAlias = str | LeafSlice


def path_of(part: LeafSpec) -> str:
    """The path of the leaf that a part is, or is a slice of."""
    return part.path if isinstance(part, LeafSlice) else part


def overlap(first: LeafSpec, second: LeafSpec) -> bool:
    """Whether two parts have a weight in common; their axes are not below 0."""
    if path_of(first) != path_of(second):
        return False
    if not isinstance(first, LeafSlice) or not isinstance(second, LeafSlice):
        return True
    return first.axis != second.axis or bool(set(first.positions) & set(second.positions))


def spelled(parts: Iterable[LeafSpec]) -> str:
    """Parts of a layer as an error says them."""
    return " with ".join(
        f"slice {str(part).removeprefix(part.path)[1:-1]} of {part.path!r}"
        if isinstance(part, LeafSlice)
        else f"leaf {part!r}"
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
