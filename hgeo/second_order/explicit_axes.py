"""Explicit mesh axes: a probe computes on automatic axes, and calls the loss on explicit ones.

On a mesh with explicit axes (`AxisType.Explicit`) the sharding is a part of each array's type. An
operation whose result's sharding does not follow from its operands is an error. A loss is written
for these types. A probe is not: the sharding of one weight's tangent, or of a chunk of coordinates,
follows from no rule. So a probe casts its arrays to the same mesh with automatic axes, and casts
them back where it evaluates the loss or one of its equations. No data move.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

PyTree = Any


def explicit_mesh(tree: PyTree) -> AbstractMesh | None:
    """The mesh of the first array of a tree whose type is on explicit axes; `None` without one."""
    found = filter(None, map(explicit_sharding, jax.tree.leaves(tree)))
    return next((sharding.mesh.abstract_mesh for sharding in found), None)


def explicit_sharding(array: Any) -> NamedSharding | None:
    """An array's or an abstract value's sharding if it is on explicit axes, else `None`."""
    sharding: Any = getattr(getattr(array, "aval", array), "sharding", None)
    mesh: Any = getattr(sharding, "mesh", None)
    if not getattr(mesh, "explicit_axes", ()):
        return None
    return NamedSharding(mesh.abstract_mesh, sharding.spec)


def automatic(mesh: AbstractMesh) -> AbstractMesh:
    """The same mesh, its explicit axes automatic."""
    return mesh.update_axis_types(dict.fromkeys(mesh.explicit_axes, AxisType.Auto))


def to_automatic(tree: PyTree) -> PyTree:
    """The tree with its arrays on automatic axes."""

    def cast(leaf):
        sharding = explicit_sharding(leaf)
        if sharding is None:
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        mesh = automatic(sharding.mesh.abstract_mesh)
        with jax.sharding.use_abstract_mesh(mesh):
            return jax.sharding.reshard(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(cast, tree)


def to_explicit(arrays: Sequence[Any], shardings: Sequence[NamedSharding | None]) -> list[Any]:
    """Arrays cast to shardings; an array whose sharding is `None` stays as it is."""
    return [
        array if sharding is None else jax.sharding.reshard(array, sharding)
        for array, sharding in zip(arrays, shardings, strict=True)
    ]


def with_explicit_axes(loss: Callable[..., Any], *arguments: PyTree) -> Callable[..., Any]:
    """A loss for arguments on automatic axes, which are cast to the types of `arguments`.

    Args:
      loss: a function of pytrees on explicit axes.
      arguments: pytrees with the types that the loss takes.
    """
    mesh = explicit_mesh(arguments)
    assert mesh is not None, "an argument is on explicit axes"
    shardings = [explicit_sharding(leaf) for leaf in jax.tree.leaves(arguments)]

    def evaluate(*given):
        leaves, treedef = jax.tree.flatten(given)
        with jax.sharding.use_abstract_mesh(mesh):
            given = jax.tree.unflatten(treedef, to_explicit(leaves, shardings))
            return to_automatic(loss(*given))

    return evaluate


def in_automatic_axes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A probe `function(loss, params, batch, ...)` that computes on automatic axes.

    Its results are replicated on every device. Arguments on automatic axes are left as they are.
    """

    @functools.wraps(function)
    def compute(loss, params, batch, *others, **options):
        mesh = explicit_mesh((params, batch, others, options))
        if mesh is None:
            return function(loss, params, batch, *others, **options)
        explicit_loss = with_explicit_axes(loss, params, batch)
        on_automatic = on_automatic_axes(functools.partial(function, explicit_loss))
        return on_automatic(params, batch, *others, **options)

    return compute


def on_automatic_axes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of pytrees that computes on automatic axes; its results are replicated."""

    def compute(*arguments, **options):
        mesh = explicit_mesh((arguments, options))
        if mesh is None:
            return function(*arguments, **options)
        with jax.sharding.use_abstract_mesh(automatic(mesh)):
            arguments, options = to_automatic((arguments, options))
            results = function(*arguments, **options)
        whole = NamedSharding(mesh, PartitionSpec())
        is_array = lambda leaf: isinstance(leaf, jax.Array)
        return jax.tree.map(
            lambda leaf: jax.sharding.reshard(leaf, whole) if is_array(leaf) else leaf, results
        )

    return compute
