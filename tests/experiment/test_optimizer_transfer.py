"""Which part of one optimizer's state another one goes on with."""

import types

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

from hgeo.errors import InputError
from hgeo.experiment.optimizer_transfer import at_step, carried_state
from hgeo.optimizers import make_optimizer

PARAMS = {"a": jnp.ones(2), "b": jnp.ones(2)}
PLAN = types.SimpleNamespace(name="second", start_run="first", optimizer="two_adams")


def test_two_states_of_one_kind_go_each_to_their_own_place():
    optimizer = optax.chain(optax.trace(0.5), optax.trace(0.9))
    old = (optax.TraceState({"a": 1 * PARAMS["a"]}), optax.TraceState({"a": 2 * PARAMS["a"]}))
    new = carried_state(old, optimizer.init({"a": PARAMS["a"]}), PLAN)
    assert [float(state.trace["a"][0]) for state in new] == [1.0, 2.0]


def test_another_number_of_states_of_one_kind_is_refused():
    old, new = (optax.chain(*[optax.trace(0.5)] * number).init(PARAMS) for number in (2, 1))
    with pytest.raises(InputError, match="first has 2 of TraceState, and two_adams has 1"):
        carried_state(old, new, PLAN)


def test_nothing_in_common_is_refused():
    with pytest.raises(InputError, match="the state of first has no part that two_adams has"):
        carried_state(optax.sgd(0.1).init(PARAMS), optax.adam(0.1).init(PARAMS), PLAN)


@pytest.mark.parametrize(
    ("name", "schedules"), [("adam", 1), ("muon", 2), ("schedule_free_adamw", 1)]
)
def test_every_schedule_of_the_learning_rate_goes_on_at_the_step(name, schedules):
    optimizer = make_optimizer(name, {"learning_rate": 0.1}, max_gradient_norm=1.0)
    state = optimizer.init({"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)
    moved = at_step(state, jnp.int32(7))
    found = [node for node in jax.tree.leaves(moved, is_leaf=is_schedule) if is_schedule(node)]
    assert [int(schedule.count) for schedule in found] == [7] * schedules
    assert len({id(schedule.count) for schedule in found}) == schedules, "buffers are donated"
    assert jax.tree.structure(moved) == jax.tree.structure(state)


def test_both_optimizers_of_muon_are_carried():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    state = optax.contrib.muon(0.1).init(params)
    old = jax.tree.map(lambda leaf: leaf + 1, state)
    new = carried_state(old, state, PLAN)
    assert jax.tree.structure(new) == jax.tree.structure(old)
    muon, adam = (new.inner_states[name].inner_state[0] for name in ("muon", "adam"))
    assert float(muon.mu["kernel"][0, 0]) == 1.0
    assert float(adam.mu["bias"][0]) == float(adam.nu["bias"][0]) == 1.0


def test_adam_is_carried_to_the_adam_within_muon():
    params = {"bias": jnp.ones(2)}  # no matrix, so that all is that Adam's
    old = jax.tree.map(lambda leaf: leaf + 1, optax.adam(0.1).init(params))
    new = carried_state(old, optax.contrib.muon(0.1).init(params), PLAN)
    assert float(new.inner_states["adam"].inner_state[0].mu["bias"][0]) == 1.0
