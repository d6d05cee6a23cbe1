"""Faults in probes of params that lie in shards."""

from tests.mutants.mutant import Mutant

SHARDING = ("tests/probes/test_sharding.py",)
CHECKPOINT = ("tests/probe_checkpoint/test_sharded_checkpoint.py",)

MUTANTS = (
    Mutant(
        "shards_taken_for_whole",
        "params in shards are copied whole to every device",
        "hgeo/sharding.py",
        "is_split = is_split or not sharding.is_fully_replicated",
        "is_split = is_split or sharding.is_fully_replicated",
        SHARDING,
    ),
    Mutant(
        "uneven_shares_accepted",
        "a number of examples that the shares do not divide is not refused",
        "hgeo/sharding.py",
        "if jnp.shape(leaf)[0] % num_shares:",
        "if jnp.shape(leaf)[0] % 1:",
        SHARDING,
    ),
    Mutant(
        "coordinates_on_every_device",
        "coordinates are not split over the mesh axis that was asked for",
        "hgeo/second_order/coordinate_axis.py",
        "sharding = NamedSharding(self.mesh, PartitionSpec(self.name, *rest))",
        "sharding = NamedSharding(self.mesh, PartitionSpec(None, *rest))",
        SHARDING,
    ),
    Mutant(
        "pinned_whole",
        "an array that is pinned to mesh axes lies whole on every device",
        "hgeo/devices.py",
        "spec = [names, *[PartitionSpec.UNCONSTRAINED] * (array.ndim - 1)]",
        "spec = [None, *[PartitionSpec.UNCONSTRAINED] * (array.ndim - 1)]",
        SHARDING,
    ),
    Mutant(
        "shortest_axis_split",
        "a checkpoint's matrix is split along its shortest axis",
        "hgeo/probe_checkpoint/shards.py",
        "spec[max(dividing, key=lambda axis: shape[axis])] = names",
        "spec[min(dividing, key=lambda axis: shape[axis])] = names",
        CHECKPOINT,
    ),
)
