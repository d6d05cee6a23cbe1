"""Which part of one optimizer's state another one goes on with."""

import types

import jax.numpy as jnp
import optax
import pytest

from hgeo.errors import InputError
from hgeo.experiment.optimizer_transfer import carried_state

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
