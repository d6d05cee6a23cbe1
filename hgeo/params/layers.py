"""Layers: the weights of a params pytree that are probed together, as one vector."""

import dataclasses
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from hgeo.params.leaf_paths import LeafSlice, LeafSpec, leaves_by_path, overlap, path_of, spelled

PyTree = Any

_NOT_WEIGHTS = {"bias", "scale", "embed", "embedder", "embedding", "embeddings"}


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
    """The weights that are probed together, as one flat vector.

    A layer is a leaf of a params pytree, several leaves, or a slice of a leaf: an entry of a stack,
    or a range along an axis, such as the queries' columns of a fused matrix. It is a static pytree
    node: it passes through `jit`, `vmap`, `shard_map` and `pmap`.

    Attributes:
      name: the key of its results.
      parts: the leaves or slices that it holds, in the order of the flat vector.
      shapes: the parts' shapes.
      dtypes: the parts' dtypes.

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
          ValueError: `params` holds no such leaf, or a leaf of another shape or kind of dtype.
        """
        by_path = leaves_by_path(params)
        return tuple(self._take(by_path, k) for k in range(len(self.parts)))

    def replace_leaves(self, params: PyTree, leaves: Iterable[jax.Array]) -> PyTree:
        """`params` with the layer's arrays replaced by `leaves`, of the same shapes."""
        by_path = leaves_by_path(params)
        for part, shape, leaf in zip(self.parts, self.shapes, leaves, strict=True):
            self._check(by_path, part, shape)
            if jnp.shape(leaf) != shape:
                raise ValueError(
                    f"layer {self.name!r} takes an array of shape {shape} for {str(part)!r}, "
                    f"not {jnp.shape(leaf)}"
                )
            if isinstance(part, LeafSlice):
                leaf = part.put(jnp.asarray(by_path[part.path]), leaf)
            by_path[path_of(part)] = leaf
        return jax.tree.unflatten(jax.tree.structure(params), list(by_path.values()))

    def ravel(self, params: PyTree) -> jax.Array:
        """The layer's weights in `params` as one vector of shape `(size,)`.

        Parts follow each other in the layer's order, each ravelled row by row. The vector's dtype
        is the widest of the parts' dtypes.
        """
        leaves = self.leaves(params)
        return jnp.concatenate([jnp.ravel(leaf).astype(self.dtype) for leaf in leaves])

    def split(self, vector: jax.Array) -> tuple[jax.Array, ...]:
        """Splits a vector of shape `(size,)` into arrays of the parts' shapes and dtypes."""
        leaves, start = [], 0
        for shape, dtype, size in zip(self.shapes, self.dtypes, self.sizes, strict=True):
            leaves.append(vector[start : start + size].reshape(shape).astype(dtype))
            start += size
        return tuple(leaves)

    def replace(self, params: PyTree, vector: jax.Array) -> PyTree:
        """`params` with the layer's weights replaced by those of a vector of shape `(size,)`.

        Raises:
          ValueError: the vector has another size.
        """
        if jnp.shape(vector) != (self.size,):
            raise ValueError(
                f"layer {self.name!r} takes a vector of shape {(self.size,)}, "
                f"not {jnp.shape(vector)}"
            )
        return self.replace_leaves(params, self.split(vector))

    def _take(self, leaves: Mapping[str, Any], k: int) -> jax.Array:
        part = self.parts[k]
        self._check(leaves, part, self.shapes[k])
        leaf = jnp.asarray(leaves[path_of(part)])
        return part.take(leaf) if isinstance(part, LeafSlice) else leaf

    def _check(self, leaves: Mapping[str, Any], part: LeafSpec, shape: tuple[int, ...]) -> None:
        path = path_of(part)
        if path not in leaves:
            raise ValueError(
                f"layer {self.name!r}: params have no leaf {path!r}; they have {sorted(leaves)}"
            )
        leaf_shape = jnp.shape(leaves[path])
        if hasattr(leaves[path], "dtype") and not _is_floating(leaves[path]):
            raise ValueError(
                f"layer {self.name!r} must be floating, but these params have "
                f"{leaves[path].dtype} at {path!r}"
            )
        if isinstance(part, LeafSlice):
            fits = part.fits(leaf_shape) and part.shape_in(leaf_shape) == shape
        else:
            fits = leaf_shape == shape
        if not fits:
            raise ValueError(
                f"layer {self.name!r} has shape {shape} at {str(part)!r}, but these params have "
                f"{leaf_shape} at {path!r}; find the layers of these params"
            )


def find_layers(
    params: PyTree, select: Select = None, *, stacked: str | None = None
) -> "OrderedDict[str, Layer]":
    r"""Finds the layers of a params pytree, in order.

    A layer ℓ is the block of weights w_ℓ of the Hessian ∂²L/∂w_ℓ² that a probe computes.

    Args:
      params: any pytree of arrays or of `jax.ShapeDtypeStruct`: nested dicts, `FrozenDict`,
        `nnx.State`, Equinox modules, lists, tuples, dataclasses. Only floating leaves can be
        layers; integer, bool and PRNG-key leaves are ignored.
      select: which leaves are layers. Paths are keys joined by "/".

        - `None`: leaves of two or more dimensions whose path names no bias, scale or embedding, in
          the order of the pytree;
        - a string: leaves whose path matches the regular expression anywhere (`re.search`);
        - a function `(path, leaf) -> bool`;
        - a sequence of paths or `LeafSlice`s, in this order (a pytree of dicts is sorted by key,
          so hgeo's models export their layers' paths in order);
        - a mapping from a name to a path, or to several paths, which then form one layer.
      stacked: a regular expression. A leaf whose path matches it holds a stack of layers along its
        leading axis (`nn.scan`); each slice becomes a layer.

    Returns:
      An `OrderedDict` of `Layer`s by name.

    Raises:
      ValueError: nothing is selected; a path or slice is not in `params`; two leaves have the same
        path, or two layers the same name; a layer holds the same weights twice.
      TypeError: `select` has another type.

    Example:
      >>> params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
      >>> list(hgeo.find_layers(params))
      ['dense/kernel']
      >>> list(hgeo.find_layers(params, "dense"))
      ['dense/bias', 'dense/kernel']

    Reference:
      Jiang, Malik, Li. How Does Adaptive Optimization Impact Local Neural Network Geometry? 2022.
    """
    everything = leaves_by_path(params)
    leaves = {path: leaf for path, leaf in everything.items() if _is_floating(leaf)}
    if not leaves:
        has = {
            path: str(getattr(leaf, "dtype", type(leaf).__name__))
            for path, leaf in list(everything.items())[:4]
        }
        raise ValueError(f"params have no floating leaf, which a layer must be; they have {has}")

    named: list[tuple[str, tuple[LeafSpec, ...]]]
    if isinstance(select, Mapping):
        wrong = [spec for spec in select.values() if not isinstance(spec, Iterable)]
        if wrong:
            raise TypeError(f"select maps names to a path or to several, not to {wrong[0]!r}")
        named = [
            (str(name), (spec,) if isinstance(spec, (str, LeafSlice)) else tuple(spec))
            for name, spec in select.items()
        ]
    elif isinstance(select, Iterable) and not isinstance(select, str):
        named = [(str(spec), (spec,)) for spec in select]
    else:
        predicate = _predicate(select)
        named = [(path, (path,)) for path, leaf in leaves.items() if predicate(path, leaf)]
    if not named:
        raise ValueError(f"select={select!r} selects no floating leaf; params have {list(leaves)}")

    layers: OrderedDict[str, Layer] = OrderedDict()
    for name, parts in named if stacked is None else _unstack(named, stacked, leaves):
        if name in layers:
            raise ValueError(
                f"two layers would have the name {name!r}, {spelled(layers[name].parts)} and "
                f"{spelled(parts)}; select each once, or give them names by a mapping"
            )
        layers[name] = _layer(name, parts, leaves)
    return layers


def _predicate(select: Any) -> Callable[[str, Any], Any]:
    if select is None:
        return lambda path, leaf: len(leaf.shape) >= 2 and not _NOT_WEIGHTS & set(_words(path))
    if isinstance(select, str):
        pattern = _pattern("select", select)
        return lambda path, leaf: pattern.search(path) is not None
    if callable(select):
        return select
    raise TypeError(
        "select must be None, a regular expression, a function (path, leaf) -> bool, a sequence of "
        f"paths, or a mapping from names to paths, not {select!r}"
    )


def _pattern(argument: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, TypeError) as error:
        raise ValueError(f"{error}: {argument}={text!r} must be a regular expression") from error


def _unstack(named, stacked: str, leaves):
    pattern, matched = _pattern("stacked", stacked), False
    for name, parts in named:
        whole = len(parts) == 1 and isinstance(parts[0], str) and parts[0] in leaves
        if not whole or not pattern.search(parts[0]):
            yield name, parts
            continue
        matched, shape = True, leaves[parts[0]].shape
        if not shape:
            raise ValueError(
                f"stacked={stacked!r} matches {parts[0]!r}, a scalar, which has no axis of layers"
            )
        for index in range(shape[0]):
            yield f"{name}[{index}]", (LeafSlice(parts[0], index),)
    if not matched:
        raise ValueError(
            f"stacked={stacked!r} must match a selected leaf; selected are "
            f"{[name for name, _ in named]}"
        )


def _layer(name: str, parts: tuple[LeafSpec, ...], leaves: Mapping[str, Any]) -> Layer:
    if not parts:
        raise ValueError(f"layer {name!r} must hold a leaf; params have {list(leaves)}")
    shapes, checked = [], []
    for part in parts:
        if path_of(part) not in leaves:
            raise ValueError(
                f"layer {name!r}: no floating leaf {path_of(part)!r}; params have {list(leaves)}"
            )
        shape = tuple(leaves[path_of(part)].shape)
        if isinstance(part, LeafSlice):
            if not part.fits(shape):
                raise ValueError(f"layer {name!r}: {part} is outside a leaf of shape {shape}")
            part = part._replace(axis=part.axis % len(shape))
            shape = part.shape_in(shape)
        shapes.append(shape)
        checked.append(part)
    parts = tuple(checked)
    twice = [
        part for k, part in enumerate(parts) if any(overlap(part, other) for other in parts[:k])
    ]
    if twice:
        raise ValueError(
            f"layer {name!r} holds the weights of {str(twice[0])!r} twice: {spelled(parts)}"
        )
    dtypes = tuple(str(leaves[path_of(part)].dtype) for part in parts)
    layer = Layer(name, parts, tuple(shapes), dtypes)
    if layer.size == 0:
        raise ValueError(f"layer {name!r} is empty: its shapes are {layer.shapes}")
    return layer


def _words(path: str) -> list[str]:
    """The words of a path: TokenEmbed_0/pos_embedding -> token embed 0 pos embedding."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", path)
    return re.split(r"[^a-z0-9]+", spaced.lower())


def _is_floating(leaf: Any) -> bool:
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return False
    return jnp.issubdtype(leaf.dtype, jnp.floating)
