"""What all runs of an experiment share, on the devices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hgeo.devices import make_mesh, place
from hgeo.experiment.evaluation import Evaluation
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.resolved import Resolved
from hgeo.experiment.validation import check_against_data
from hgeo.measure.optimizer_view import OptimizerView
from hgeo.optimizers import OPTIMIZERS, make_optimizer, preconditioner_constants
from hgeo.training.updates import TrainState, Updates
from hgeo.workloads.workload import Workload

PyTree = Any


@dataclasses.dataclass(frozen=True)
class SharedResources:
    """What all runs of an experiment share.

    Attributes:
      resolved: the experiment.
      workload: model, data and loss.
      mesh: the devices.
      variables: the common initial ones.
      probe: measures the curvature.
      evaluation: measures the metrics of the held-out examples.
      examples: the training examples, on the devices.
      dropout_key: of all runs.
    """

    resolved: Resolved
    workload: Workload
    mesh: Mesh
    variables: PyTree
    probe: GeometryProbe
    evaluation: Evaluation
    examples: PyTree
    dropout_key: jax.Array

    @property
    def dtypes(self) -> list[str]:
        """Of the params."""
        return [str(leaf.dtype) for leaf in jax.tree.leaves(self.variables["params"])]


def build_resources(resolved: Resolved) -> SharedResources:
    """Reads the data, makes the initial variables from the seed, and places both on the devices.

    Raises:
      InputError: the experiment doesn't fit the data, the model or the devices.
    """
    workload, mesh = resolved.read_workload(), make_mesh()
    check_against_data(resolved, workload, mesh)
    init_key, coordinates_key, dropout_key = jax.random.split(jax.random.key(resolved.seed), 3)
    variables = jax.tree.map(jnp.asarray, workload.init(init_key))
    # Fixed masks give all iterates and optimizers the same loss.
    probed = workload.with_dropout(dropout_key) if resolved.probe.dropout else workload
    return SharedResources(
        resolved=resolved,
        workload=workload,
        mesh=mesh,
        variables=variables,
        probe=GeometryProbe(resolved.probe, probed, variables, coordinates_key, mesh),
        evaluation=Evaluation(resolved.evaluation.batch_size, workload, mesh),
        examples=place(workload.examples, mesh),
        dropout_key=dropout_key,
    )


def make_updates(resources: SharedResources, plan: RunPlan) -> Updates:
    """The compiled updates of a plan's optimizer, at any learning rate."""
    optimizer_of = lambda rate: _optimizer(resources.resolved, plan, rate)
    return Updates(resources.workload, optimizer_of, resources.dropout_key, resources.mesh)


def initial_state(resources: SharedResources, plan: RunPlan) -> TrainState:
    """A plan's state at the common variables."""
    optimizer = _optimizer(resources.resolved, plan)
    copy = jax.tree.map(jnp.copy, resources.variables)
    state = TrainState(copy, optimizer.init(copy["params"]), jnp.zeros((), jnp.int32))
    return place(state, resources.mesh)


def optimizer_view(resolved: Resolved, plan: RunPlan) -> OptimizerView:
    """What statistics use of a plan's optimizer."""
    optimizer = make_optimizer(
        plan.optimizer,
        plan.arguments,
        max_gradient_norm=resolved.max_gradient_norm,
        block=plan.name,
    )
    constants = preconditioner_constants(plan.optimizer, plan.arguments)
    is_checked = plan.optimizer not in OPTIMIZERS
    return OptimizerView(optimizer, plan.rate, constants, is_checked=is_checked)


def _optimizer(resolved: Resolved, plan: RunPlan, rate: Any = None) -> Any:
    """The optimizer with the schedule of the learning rate and the clipping."""
    factor, norm = resolved.learning_rate_factor, resolved.max_gradient_norm
    return make_optimizer(plan.optimizer, plan.arguments, factor, norm, plan.name, rate)
