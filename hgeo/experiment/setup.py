"""What all runs of a config share, on the devices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hgeo.config import Config
from hgeo.devices import make_mesh, place
from hgeo.experiment.evaluation import Evaluation
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.learning_rate_schedule import make_factor
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.validation import check_against_data
from hgeo.measure.optimizer_view import Adaptivity
from hgeo.optimizers import OPTIMIZERS, make_optimizer, preconditioner_constants
from hgeo.training.updates import TrainState, Updates
from hgeo.workloads.workload import Workload

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all runs of a config share.

    Attributes:
      workload: model, data and loss.
      mesh: the devices.
      variables: the common initial ones.
      probe: measures the curvature.
      evaluation: measures the metrics of the held-out examples.
      examples: the training examples, on the devices.
      dropout_key: of all runs.
    """

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


def set_up(config: Config, workload: Workload) -> Setup:
    """Makes the initial variables from the seed, and puts all on the devices.

    Raises:
      InputError: the config doesn't fit the data, the model or the devices.
    """
    mesh = make_mesh()
    check_against_data(config, workload, mesh)
    init_key, coordinates_key, dropout_key = jax.random.split(jax.random.key(config.seed), 3)
    variables = jax.tree.map(jnp.asarray, workload.init(init_key))
    # Fixed masks, so that iterates and optimizers are probed on one loss.
    probed = workload.with_dropout(dropout_key) if config.probe.dropout else workload
    return Setup(
        workload=workload,
        mesh=mesh,
        variables=variables,
        probe=GeometryProbe(config, probed, variables, coordinates_key, mesh),
        evaluation=Evaluation(config, workload, mesh),
        examples=place(workload.examples, mesh),
        dropout_key=dropout_key,
    )


def make_updates(config: Config, setup: Setup, plan: RunPlan) -> Updates:
    """The compiled updates of a plan's optimizer, at any learning rate."""
    factor = make_factor(config.learning_rate_schedule, config.steps)

    def optimizer_of(rate):
        norm = config.max_gradient_norm
        return make_optimizer(plan.optimizer, plan.arguments, factor, norm, plan.name, rate)

    return Updates(setup.workload, optimizer_of, setup.dropout_key, setup.mesh)


def initial_state(config: Config, setup: Setup, plan: RunPlan) -> TrainState:
    """A plan's state at the common variables."""
    factor = make_factor(config.learning_rate_schedule, config.steps)
    norm = config.max_gradient_norm
    optimizer = make_optimizer(plan.optimizer, plan.arguments, factor, norm, plan.name)
    copy = jax.tree.map(jnp.copy, setup.variables)
    state = TrainState(copy, optimizer.init(copy["params"]), jnp.zeros((), jnp.int32))
    return place(state, setup.mesh)


def adaptivity(config: Config, plan: RunPlan) -> Adaptivity:
    """A plan's optimizer as statistics look at it."""
    optimizer = make_optimizer(
        plan.optimizer,
        plan.arguments,
        max_gradient_norm=config.max_gradient_norm,
        block=plan.name,
    )
    constants = preconditioner_constants(plan.optimizer, plan.arguments)
    return Adaptivity(optimizer, plan.rate, constants, is_checked=plan.optimizer not in OPTIMIZERS)
