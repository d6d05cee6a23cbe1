"""What all runs of a config share, on the devices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hgeo.config import Config
from hgeo.evaluation import Evaluation
from hgeo.geometry import GeometryProbe
from hgeo.learning_rates import make_factor
from hgeo.optimizers import make_optimizer
from hgeo.parallel import make_mesh, place
from hgeo.plan import RunPlan
from hgeo.settings import check_against_data
from hgeo.train import TrainState, make_update
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


def set_up(config: Config, workload: Workload) -> Setup:
    """Makes the initial variables from the seed, and puts all on the devices.

    Raises:
      InputError: the config doesn't fit the data, the model or the devices.
    """
    mesh = make_mesh()
    check_against_data(config, workload, mesh)
    init_key, coordinates_key, dropout_key = jax.random.split(jax.random.key(config.seed), 3)
    variables = jax.tree.map(jnp.asarray, workload.init(init_key))
    return Setup(
        workload=workload,
        mesh=mesh,
        variables=variables,
        probe=GeometryProbe(config, workload, variables, coordinates_key, mesh),
        evaluation=Evaluation(config, workload, mesh),
        examples=place(workload.examples, mesh),
        dropout_key=dropout_key,
    )


def update_and_initial(
    config: Config, setup: Setup, plan: RunPlan
) -> tuple[Callable[..., tuple[TrainState, jax.Array]], Callable[[], TrainState]]:
    """A plan's compiled update, and what makes the state that begins at the common variables."""
    factor = make_factor(config.learning_rate_schedule, config.steps)
    optimizer = make_optimizer(
        plan.optimizer, plan.arguments, factor, config.max_gradient_norm, block=plan.name
    )

    def initial():
        copy = jax.tree.map(jnp.copy, setup.variables)
        state = TrainState(copy, optimizer.init(copy["params"]), jnp.zeros((), jnp.int32))
        return place(state, setup.mesh)

    return make_update(setup.workload, optimizer, setup.dropout_key, setup.mesh), initial
