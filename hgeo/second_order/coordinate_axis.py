"""A mesh axis over which each chunk of a layer's coordinates is split."""

import dataclasses
from typing import Any

import jax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

PyTree = Any


@dataclasses.dataclass(frozen=True)
class CoordinateAxis:
    """A mesh axis over which the coordinates of a chunk are split.

    Attributes:
      mesh: the mesh.
      name: of the axis.
    """

    mesh: AbstractMesh
    name: str

    @property
    def size(self) -> int:
        """The number of shares."""
        return self.mesh.shape[self.name]

    def split(self, tree: PyTree) -> PyTree:
        """The tree with its arrays split along their leading axis; XLA places the other axes."""

        def split_array(array):
            rest = [PartitionSpec.UNCONSTRAINED] * (array.ndim - 1)
            sharding = NamedSharding(self.mesh, PartitionSpec(self.name, *rest))
            return jax.lax.with_sharding_constraint(array, sharding)

        return jax.tree.map(split_array, tree)


def coordinate_axis_of(name: str | None, tree: PyTree) -> CoordinateAxis | None:
    """The named axis of the mesh on which a tree's arrays lie; `None` if no name is given.

    Raises:
      ValueError: no array lies on a mesh, or the mesh has no such axis.
    """
    if name is None:
        return None
    meshes = [
        jax.typeof(x).sharding.mesh for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)
    ]
    meshes = [mesh for mesh in [*meshes, jax.sharding.get_abstract_mesh()] if not mesh.empty]
    if not meshes:
        raise ValueError(
            f"coordinate_axis={name!r} needs params or a batch on a mesh, but no array lies on one"
        )
    if name not in meshes[0].axis_names:
        raise ValueError(
            f"coordinate_axis must be one of the mesh's axes {meshes[0].axis_names}, not {name!r}"
        )
    return CoordinateAxis(meshes[0], name)
