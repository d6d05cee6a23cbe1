"""Params that are sharded over a mesh: finds the mesh, and compiles programs that run on it.

Params with a `NamedSharding` stay where they are: the program is `jax.jit` of a function of global
arrays, and uses no named axis.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hgeo.devices import compiler_options

PyTree = Any
BatchSpec = PartitionSpec | str | Sequence[str] | None


def mesh_of_params(
    params: PyTree, mesh: Mesh | None = None, replicating: Mesh | None = None
) -> Mesh | None:
    """The mesh on which params are sharded; `None` if no array of them is.

    JAX runs no program on another mesh than that of `jax.set_mesh`. So params that are not sharded
    count as replicated on a mesh that is set, unless it is `replicating`.

    Args:
      params: a pytree of arrays.
      mesh: the mesh to run on, also for params that are not sharded.
      replicating: the mesh over which hgeo replicates params that are not sharded.

    Raises:
      ValueError: params lie on meshes of different devices, or on other devices than `mesh`.
    """
    found: dict[Any, tuple[str, Any]] = {}
    is_split = False
    for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        sharding = _named_sharding(leaf)
        if sharding is None:
            continue
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        found.setdefault(_devices(sharding.mesh), (path, sharding.mesh))
        is_split = is_split or not sharding.is_fully_replicated
    if mesh is None and not is_split:
        mesh = _set_mesh()
        if mesh is None or mesh == replicating:
            return None
    if len(found) > 1:
        (one, first), (other, second) = list(found.values())[:2]
        raise ValueError(
            f"params must lie on one mesh, but {one!r} lies on {_said(first)} and {other!r} on "
            f"{_said(second)}"
        )
    if not found:
        return mesh
    ((path, own),) = found.values()
    if mesh is not None and _devices(mesh) != _devices(own):
        raise ValueError(f"mesh={_said(mesh)} was given, but {path!r} lies on {_said(own)}")
    return own


def _set_mesh() -> Mesh | None:
    """The mesh of `jax.set_mesh`; `None` for none, and within a traced function."""
    try:
        mesh = jax.sharding.get_mesh()
    except ValueError:
        return None
    return None if mesh.empty else mesh


def lies_in_shards(tree: PyTree) -> bool:
    """Whether an array of a tree is sharded by a `NamedSharding`."""
    shardings = map(_named_sharding, jax.tree.leaves(tree))
    return any(sharding and not sharding.is_fully_replicated for sharding in shardings)


class OverMesh:
    """A function of params, other arguments and a batch, compiled for the params' mesh.

    Params and batch keep their shardings; arrays that lie on no mesh are replicated. The outputs
    are replicated numbers.
    """

    def __init__(self, function: Callable[..., Any], mesh: Mesh, batch_spec: BatchSpec = None):
        """Takes a function of global arrays.

        Args:
          function: traced with the shardings of its arguments.
          mesh: from `mesh_of_params`.
          batch_spec: how to split arrays of the batch that lie on no mesh.
        """
        self._mesh, self._batch_spec = mesh, batch_spec
        whole = NamedSharding(mesh, PartitionSpec())
        compile_with = lambda options: jax.jit(
            function, out_shardings=whole, compiler_options=options
        )
        self._alone, self._traced = compile_with(compiler_options(mesh, ())), compile_with(None)

    def __call__(self, *arguments: PyTree) -> Any:
        """The function's outputs, replicated on every device."""
        arguments = self._placed(arguments)
        with mesh_context(None if _is_traced(arguments) else self._mesh):
            return self._program(arguments)(*arguments)

    def lower(self, *arguments: PyTree) -> Any:
        """Lowers the program for these arguments, as `jax.jit(...).lower` does.

        Only the batch's arrays are put on the mesh, whose devices may be those of a topology.
        """
        *others, batch = arguments
        arguments = self._placed((*jax.tree.map(_without_values, others), batch))
        with mesh_context(None if _is_traced(arguments) else self._mesh):
            return self._program(arguments).lower(*arguments)

    def _program(self, arguments: Sequence[PyTree]) -> Any:
        # JAX takes compiler options for a whole program only, not for a traced part.
        return self._traced if _is_traced(arguments) else self._alone

    def _placed(self, arguments: Sequence[PyTree]) -> tuple[PyTree, ...]:
        """The arguments on the mesh."""
        if _is_traced(arguments):
            return tuple(arguments)
        *others, batch = arguments
        return (
            *(place_whole(tree, self._mesh) for tree in others),
            place_batch_on(batch, self._mesh, self._batch_spec),
        )


def place_whole(tree: PyTree, mesh: Mesh) -> PyTree:
    """The tree with arrays that lie on no mesh replicated on every device; others stay."""
    whole = NamedSharding(mesh, PartitionSpec())

    def of(leaf):
        is_placed = _named_sharding(leaf) is not None or isinstance(leaf, jax.ShapeDtypeStruct)
        return leaf if is_placed else jax.device_put(leaf, whole)

    return jax.tree.map(of, tree)


def place_batch_on(batch: PyTree, mesh: Mesh, batch_spec: BatchSpec = None) -> PyTree:
    """A batch on the params' mesh: arrays that lie there stay, others are split by `batch_spec`.

    Raises:
      ValueError: an array lies on other devices, or is not divisible as `batch_spec` says.
    """
    spec = _leading(batch_spec)
    num_shares, is_whole = _num_shares(mesh, spec), True

    def of(keys, leaf):
        nonlocal is_whole
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        sharding = _named_sharding(leaf)
        if sharding is not None:
            if _devices(sharding.mesh) != _devices(mesh):
                raise ValueError(
                    f"params lie on {_said(mesh)}, but the batch's array {path!r} lies on "
                    f"{_said(sharding.mesh)}"
                )
            # Who names an axis has chosen, also where the mesh has one device on it.
            is_whole = is_whole and not any(sharding.spec)
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            is_whole = False
            return leaf
        if not jnp.ndim(leaf) or spec == PartitionSpec():
            return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))
        if jnp.shape(leaf)[0] % num_shares:
            raise ValueError(
                f"the batch's number of examples must be a multiple of the {num_shares} shares of "
                f"batch_spec={spec}, but {path or 'the batch'} has {jnp.shape(leaf)[0]}"
            )
        is_whole = is_whole and num_shares == 1
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    result = jax.tree_util.tree_map_with_path(of, batch)
    has_examples = any(map(jnp.ndim, jax.tree.leaves(batch)))
    if is_whole and batch_spec is None and mesh.size > 1 and has_examples:
        axis = mesh.axis_names[0]
        warnings.warn(
            f"the batch lies whole on each of the {mesh.size} devices, so each computes all of it; "
            f'to split it, give batch_spec="{axis}", or take jax.device_put('
            f'batch, NamedSharding(mesh, PartitionSpec("{axis}")))',
            stacklevel=2,
        )
    return result


def check_no_devices(devices: Any) -> None:
    """Raises a ValueError if devices are given for params on a mesh."""
    if devices is not None:
        raise ValueError(
            f"devices={devices!r} can't be chosen for params on a mesh, whose devices are used: "
            "leave devices out"
        )


def check_split_options(coordinate_axis: str | None, batch_spec: BatchSpec) -> None:
    """Raises a ValueError if an option that needs a mesh is given for params on no mesh."""
    for name, value in (("coordinate_axis", coordinate_axis), ("batch_spec", batch_spec)):
        if value is not None:
            raise ValueError(
                f"{name}={value!r} names axes of a mesh, but the params are sharded on no mesh: "
                "give mesh=, or put the params on a mesh"
            )


def batch_axes_of(batch: PyTree, batch_spec: BatchSpec) -> tuple[str, ...] | None:
    """The mesh axes over which a batch's leading axis is split; `None` if it is not split."""
    shardings = filter(None, map(_named_sharding, jax.tree.leaves(batch)))
    specs = [*(sharding.spec for sharding in shardings), _leading(batch_spec)]
    return next(filter(None, map(_first_axes, specs)), None)


def whole_array(array: Any) -> Any:
    """An array, replicated on every device that holds a part of it."""
    sharding = _named_sharding(array)
    if sharding is None or sharding.is_fully_replicated:
        return array
    return jax.device_put(array, NamedSharding(sharding.mesh, PartitionSpec()))


def _named_sharding(leaf: Any) -> NamedSharding | None:
    sharding = getattr(leaf, "sharding", None) if not isinstance(leaf, Tracer) else None
    is_named = isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh)
    return sharding if is_named else None


def _without_values(leaf: Any) -> Any:
    is_kept = isinstance(leaf, Tracer) or _named_sharding(leaf) is not None
    return leaf if is_kept else jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))


def _leading(spec: BatchSpec) -> PartitionSpec:
    if spec is None or isinstance(spec, PartitionSpec):
        return spec or PartitionSpec()
    return PartitionSpec(spec if isinstance(spec, str) else tuple(spec))


def _num_shares(mesh: Mesh, spec: PartitionSpec) -> int:
    names = _first_axes(spec)
    unknown = [name for name in names if name not in mesh.axis_names]
    if unknown or len(spec) > 1:
        raise ValueError(
            f"batch_spec must name axes of {_said(mesh)} for the leading axis alone, not {spec}"
        )
    return math.prod(mesh.shape[name] for name in names)


def _first_axes(spec: PartitionSpec) -> tuple[str, ...]:
    first = spec[0] if len(spec) else None
    return () if first is None else (first,) if isinstance(first, str) else tuple(first)


def _devices(mesh: Any) -> tuple[Any, ...]:
    return tuple(np.ravel(mesh.devices))


def _said(mesh: Any) -> str:
    """A mesh in words, for an error."""
    axes = ", ".join(f"{name}:{size}" for name, size in mesh.shape.items())
    numbers = [device.id for device in _devices(mesh)]
    which = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
    return f"the mesh {axes} (devices {which})"


def mesh_context(mesh: Mesh | None) -> contextlib.AbstractContextManager:
    """Sets the mesh, for a loss that names its axes, unless there is none or one is set."""
    is_set = not jax.sharding.get_abstract_mesh().empty
    return contextlib.nullcontext() if mesh is None or is_set else jax.set_mesh(mesh)


def _is_traced(arguments: Sequence[PyTree]) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))
