"""The mesh of a command line, and the sharding of each of a checkpoint's arrays."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hgeo.errors import InputError
from hgeo.params.leaf_paths import leaves_by_path

PyTree = Any

_AXIS = re.compile(r"([A-Za-z]\w*):(\d+)")


def parse_mesh(given: str) -> Mesh:
    """The mesh of `name:size,name:size`, over the first devices.

    Raises:
      InputError: the text has another form, or there are too few devices.
    """
    axes = [_AXIS.fullmatch(axis) for axis in given.split(",")]
    names = [axis[1] for axis in axes if axis]
    sizes = [int(axis[2]) for axis in axes if axis]
    if not all(axes) or len(set(names)) < len(axes) or min(sizes) < 1:
        raise InputError(
            f"--mesh={given} must name each axis once with its size, such as data:2,fsdp:4"
        )
    needed, there = math.prod(sizes), jax.device_count()
    if needed > there:
        raise InputError(f"--mesh={given} takes {needed} devices, but there are {there}")
    devices = jax.devices()[:needed]
    return jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(names), devices=devices)


def batch_axes(given: str | None, mesh: Mesh, batch: PyTree) -> tuple[str, ...]:
    """The axes over which a batch is split, by default all.

    Raises:
      InputError: the mesh has no such axis, or the batch does not divide.
    """
    names = mesh.axis_names if given is None else tuple(filter(None, given.split(",")))
    _check_names("--split_batch", names, mesh)
    shares = math.prod(mesh.shape[name] for name in names)
    for path, leaf in leaves_by_path(batch).items():
        if np.ndim(leaf) and np.shape(leaf)[0] % shares:
            raise InputError(
                f"the batch's array {path!r} has {np.shape(leaf)[0]} examples, which the {shares} "
                f"shares along {', '.join(names)} do not divide: --split_batch names fewer axes"
            )
    return names


def shardings_along(axes: str, mesh: Mesh, template: PyTree) -> dict[str, NamedSharding]:
    """Shardings by path: each matrix split along its longest axis that divides, others whole.

    Args:
      axes: names of mesh axes, separated by commas.
      mesh: the mesh.
      template: a pytree of arrays or `jax.ShapeDtypeStruct`s.

    Raises:
      InputError: the mesh has no such axis, or no axis of a matrix divides.
    """
    names = tuple(filter(None, axes.split(",")))
    _check_names("--shard", names, mesh)
    shares = math.prod(mesh.shape[name] for name in names)
    found = {}
    for path, leaf in leaves_by_path(template).items():
        shape = np.shape(leaf)
        spec: list[Any] = [None] * len(shape)
        if len(shape) > 1:
            dividing = [axis for axis, size in enumerate(shape) if size % shares == 0]
            if not dividing:
                raise InputError(
                    f"{path} has shape {list(shape)}, of which no axis divides by the {shares} "
                    f"shares of --shard={axes}"
                )
            spec[max(dividing, key=lambda axis: shape[axis])] = names
        found[path] = NamedSharding(mesh, PartitionSpec(*spec))
    return found


def shardings_by_function(
    function: Callable[[Mesh, PyTree], PyTree], mesh: Mesh, template: PyTree
) -> dict[str, NamedSharding]:
    """Shardings by path, as a target's function `shardings(mesh, params)` gives them.

    Args:
      function: returns a pytree like the template, of `NamedSharding`s or `PartitionSpec`s.
      mesh: the mesh.
      template: a pytree of arrays or `jax.ShapeDtypeStruct`s.

    Raises:
      InputError: the function fails, returns something else, or a shape does not divide.
    """
    is_leaf = lambda node: isinstance(node, (NamedSharding, PartitionSpec))
    try:
        given = function(mesh, template)
    except Exception as error:
        raise InputError(
            f"shardings(mesh, params) fails: {type(error).__name__}: {error}"
        ) from error
    specs = jax.tree.leaves(given, is_leaf=is_leaf)
    leaves = leaves_by_path(template)
    if len(specs) != len(leaves) or not all(map(is_leaf, specs)):
        raise InputError(
            f"shardings(mesh, params) must give a NamedSharding or a PartitionSpec for each of the "
            f"{len(leaves)} arrays, not {len(specs)} leaves of {type(specs[0]).__name__}"
            if specs
            else "shardings(mesh, params) must give a pytree such as params, not an empty one"
        )
    found = {}
    for (path, leaf), spec in zip(leaves.items(), specs, strict=True):
        found[path] = spec if isinstance(spec, NamedSharding) else NamedSharding(mesh, spec)
        try:
            found[path].shard_shape(np.shape(leaf))
        except ValueError as error:
            raise InputError(
                f"{path} has shape {list(np.shape(leaf))}, which does not divide by "
                f"{found[path].spec} over the mesh {dict(mesh.shape)}"
            ) from error
    return found


def _check_names(option: str, names: tuple[str, ...], mesh: Mesh) -> None:
    unknown = [name for name in names if name not in mesh.axis_names]
    if unknown or not names:
        raise InputError(
            f"{option} must name axes of --mesh ({', '.join(mesh.axis_names)}), "
            f"not {', '.join(unknown) or 'none'}"
        )
