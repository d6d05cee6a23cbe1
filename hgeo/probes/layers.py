"""Layers: which weights of a params pytree a probe looks at, and how they become one vector."""

import dataclasses
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

PyTree = Any

_NOT_WEIGHTS = {"bias", "scale", "embed", "embedder", "embedding", "embeddings"}


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
Select: TypeAlias = (
    str
    | Callable[[str, Any], bool]
    | Iterable[LeafSpec]
    | Mapping[str, LeafSpec | Iterable[LeafSpec]]
    | None
)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Layer:
    """The weights that are probed together, taken as one flat vector.

    A layer is one leaf of a params pytree, several leaves taken as one, or one slice of a stacked
    leaf. It is a static pytree node: it passes through `jit`, `vmap`, `shard_map` and `pmap`.

    Attributes:
      name: its name, the key of every result.
      parts: the leaves that it holds, in the order of the flat vector.
      shapes: their shapes (of the slice, for a slice).
      dtypes: their dtypes; each leaf keeps its own.

    Example:
      >>> layer = hgeo.find_layers({"kernel": jnp.ones((2, 3))})["kernel"]
      >>> layer.size
      6
    """

    name: str
    parts: tuple[LeafSpec, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of weights in each part."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """The number of weights in the layer."""
        return sum(self.sizes)

    @property
    def dtype(self) -> Any:
        """The dtype that holds the dtypes of all parts."""
        with jax.numpy_dtype_promotion("standard"):
            return jnp.result_type(*self.dtypes)

    def leaves(self, params: PyTree) -> tuple[jax.Array, ...]:
        """The layer's arrays in `params`, one for each part.

        Raises:
          ValueError: `params` holds no such leaf, or one of another shape.
        """
        found = leaves_by_path(params)
        return tuple(self._take(found, k) for k in range(len(self.parts)))

    def replace_leaves(self, params: PyTree, leaves: Iterable[jax.Array]) -> PyTree:
        """`params` with the layer's arrays replaced by `leaves`, of the same shapes."""
        paths = list(leaves_by_path(params))
        flat, treedef = jax.tree.flatten(params)
        for part, leaf in zip(self.parts, leaves, strict=True):
            position = paths.index(_path(part))
            if isinstance(part, LeafSlice):
                leaf = jnp.asarray(flat[position]).at[part.index].set(leaf)
            flat[position] = leaf
        return jax.tree.unflatten(treedef, flat)

    def ravel(self, params: PyTree) -> jax.Array:
        """The layer's weights in `params` as one vector of shape `(size,)`.

        Leaves in the layer's order, each ravelled row by row; of several dtypes, the vector has
        the one that holds them all.
        """
        leaves = self.leaves(params)
        return jnp.concatenate([jnp.ravel(leaf).astype(self.dtype) for leaf in leaves])

    def split(self, vector: jax.Array) -> tuple[jax.Array, ...]:
        """A vector of shape `(size,)` as arrays of the layer's shapes and dtypes."""
        leaves, start = [], 0
        for shape, dtype, size in zip(self.shapes, self.dtypes, self.sizes, strict=True):
            leaves.append(vector[start : start + size].reshape(shape).astype(dtype))
            start += size
        return tuple(leaves)

    def replace(self, params: PyTree, vector: jax.Array) -> PyTree:
        """`params` with the layer's weights replaced by those of a vector of shape `(size,)`.

        Raises:
          ValueError: the vector is not of the layer's size.
        """
        if jnp.shape(vector) != (self.size,):
            raise ValueError(
                f"layer {self.name!r} takes a vector of shape {(self.size,)}, "
                f"not {jnp.shape(vector)}"
            )
        return self.replace_leaves(params, self.split(vector))

    def _take(self, leaves: Mapping[str, Any], k: int) -> jax.Array:
        part, path = self.parts[k], _path(self.parts[k])
        if path not in leaves:
            raise ValueError(
                f"layer {self.name!r}: params have no leaf {path!r}; they have {sorted(leaves)}"
            )
        leaf = jnp.asarray(leaves[path])
        leaf = leaf[part.index] if isinstance(part, LeafSlice) else leaf
        if leaf.shape != self.shapes[k]:
            raise ValueError(
                f"layer {self.name!r} was found with shape {self.shapes[k]} at {path!r}, "
                f"but these params have {leaf.shape} there"
            )
        return leaf


def find_layers(
    params: PyTree, select: Select = None, *, stacked: str | None = None
) -> "OrderedDict[str, Layer]":
    r"""Finds the layers of a params pytree, in order.

    A layer ℓ is the block of weights w_ℓ whose Hessian ∂²L/∂w_ℓ² a probe looks at.

    Args:
      params: any pytree of arrays or of `jax.ShapeDtypeStruct`: nested dicts, `FrozenDict`,
        `nnx.State`, Equinox modules, lists, tuples, dataclasses. Only floating leaves can be
        layers; integer, bool and PRNG-key leaves are left alone.
      select: which leaves, by path (components joined by "/"), and in which order:
        `None`, leaves of two or more dimensions whose path names no bias, scale or embedding, in
        the order of the pytree; a string, the leaves whose path the regular expression matches
        anywhere (`re.search`); a function `(path, leaf) -> bool`; a sequence of paths or
        `LeafSlice`s, in the order given (models export theirs, since a pytree of dicts is sorted
        by key); a mapping from names to a path or to several, which are then one layer.
      stacked: a regular expression; a leaf whose path it matches holds the layers of a stack along
        its leading axis (`nn.scan`), and each slice becomes a layer of its own.

    Returns:
      An `OrderedDict` of `Layer`s by name.

    Raises:
      ValueError: nothing was selected, or a path or slice is not in `params`.
      TypeError: `select` is none of these.

    Example:
      >>> params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
      >>> list(hgeo.find_layers(params))
      ['dense/kernel']
      >>> list(hgeo.find_layers(params, "dense"))
      ['dense/bias', 'dense/kernel']

    Reference:
      Jiang, Malik, Li. How Does Adaptive Optimization Impact Local Neural Network Geometry? 2022.
    """
    leaves = {path: leaf for path, leaf in leaves_by_path(params).items() if _is_floating(leaf)}
    if not leaves:
        raise ValueError("params have no floating leaf, so no layer can be found in them")

    named: dict[str, tuple[LeafSpec, ...]]
    if isinstance(select, Mapping):
        named = {
            str(name): (spec,) if isinstance(spec, (str, LeafSlice)) else tuple(spec)
            for name, spec in select.items()
        }
    elif isinstance(select, Iterable) and not isinstance(select, str):
        named = {str(spec): (spec,) for spec in select}
    else:
        chosen = [path for path, leaf in leaves.items() if _predicate(select)(path, leaf)]
        named = {path: (path,) for path in chosen}

    if stacked is not None:
        named = dict(_unstack(named, stacked, leaves))
    if not named:
        raise ValueError(f"select={select!r} selects no floating leaf; params have {list(leaves)}")
    return OrderedDict((name, _layer(name, parts, leaves)) for name, parts in named.items())


def _predicate(select: Any) -> Callable[[str, Any], Any]:
    if select is None:
        return lambda path, leaf: len(leaf.shape) >= 2 and not _NOT_WEIGHTS & set(_words(path))
    if isinstance(select, str):
        pattern = re.compile(select)
        return lambda path, leaf: pattern.search(path) is not None
    if callable(select):
        return select
    raise TypeError(
        "select must be None, a regular expression, a function (path, leaf) -> bool, a sequence of "
        f"paths, or a mapping from names to paths, not {select!r}"
    )


def _unstack(named, stacked: str, leaves):
    pattern = re.compile(stacked)
    for name, parts in named.items():
        if len(parts) == 1 and isinstance(parts[0], str) and pattern.search(parts[0]):
            for index in range(leaves[parts[0]].shape[0]):
                yield f"{name}[{index}]", (LeafSlice(parts[0], index),)
        else:
            yield name, parts


def _layer(name: str, parts: tuple[LeafSpec, ...], leaves: Mapping[str, Any]) -> Layer:
    shapes = []
    for part in parts:
        if _path(part) not in leaves:
            raise ValueError(
                f"layer {name!r}: no floating leaf {_path(part)!r}; params have {list(leaves)}"
            )
        shape = tuple(leaves[_path(part)].shape)
        if isinstance(part, LeafSlice):
            if not shape or not 0 <= part.index < shape[0]:
                raise ValueError(f"layer {name!r}: {part} is outside a leaf of shape {shape}")
            shape = shape[1:]
        shapes.append(shape)
    dtypes = tuple(str(leaves[_path(part)].dtype) for part in parts)
    layer = Layer(name, parts, tuple(shapes), dtypes)
    if layer.size == 0:
        raise ValueError(f"layer {name!r} is empty: its shapes are {layer.shapes}")
    return layer


def leaves_by_path(params: PyTree) -> dict[str, Any]:
    """Every leaf by its path; the attribute that holds an NNX variable's array is not named."""
    found = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        found[path.removesuffix("/value")] = leaf
    return found


def _path(part: LeafSpec) -> str:
    return part.path if isinstance(part, LeafSlice) else part


def _words(path: str) -> list[str]:
    """The words of a path: TokenEmbed_0/pos_embedding -> token embed 0 pos embedding."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", path)
    return re.split(r"[^a-z0-9]+", spaced.lower())


def _is_floating(leaf: Any) -> bool:
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return False
    return jnp.issubdtype(leaf.dtype, jnp.floating)
