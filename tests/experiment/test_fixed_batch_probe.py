"""The probe of an experiment: what is measured once for all runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.devices import make_mesh
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.resolve import resolve
from hgeo.experiment.shared_resources import optimizer_view
from hgeo.optimizers import make_optimizer
from tests.trajectories import least


@pytest.fixture(scope="module")
def resolved():
    statistics = ("r_med", "preconditioned")
    return resolve(least(probe__statistics=statistics, optimizers=("sgdm", "adam")))


def test_weights_that_were_probed_are_not_probed_again(resolved, monkeypatch):
    workload = resolved.read_workload()
    variables = workload.init(jax.random.key(0))
    measured = []
    sampled = GeometryProbe.sampled
    monkeypatch.setattr(
        GeometryProbe, "sampled", lambda *args: measured.append(args[1]) or sampled(*args)
    )

    def new_probe():
        return GeometryProbe(
            resolved.probe, workload, variables, jax.random.key(1), make_mesh(jax.devices()[:1])
        )

    def measure(probe, variables, plan):
        state = make_optimizer(plan.optimizer, plan.arguments).init(variables["params"])
        with jax.numpy_dtype_promotion("standard"):  # of Optax
            return probe(variables, state, optimizer_view(resolved, plan))

    probe, plans = new_probe(), resolved.plans
    measure(probe, variables, plans[0])
    found = measure(probe, jax.tree.map(jnp.copy, variables), plans[1])
    assert len(measured) == 1  # for both optimizers
    np.testing.assert_equal(found, measure(new_probe(), variables, plans[1]))

    leaves, structure = jax.tree.flatten(variables)
    leaves[-1] = leaves[-1].at[(0,) * leaves[-1].ndim].add(1e-3)
    other = jax.tree.unflatten(structure, leaves)
    found = measure(probe, other, plans[0])
    assert len(measured) == 3  # once more in the new probe
    np.testing.assert_equal(found, measure(new_probe(), other, plans[0]))
