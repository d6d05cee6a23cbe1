"""The optimizer's state of a run that starts at another run's iterate."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hgeo.errors import InputError
from hgeo.experiment.plan import RunPlan
from hgeo.optimizers import make_optimizer

PyTree = Any


def carried_state(old: PyTree, new: PyTree, plan: RunPlan) -> PyTree:
    """`new` with each part replaced by the part of `old` of the same Optax type and structure.

    Momentum goes from SGD+M to RMSprop, and both moments from Adam to AdamW. Parts within Optax's
    wrappers are found as well, such as both optimizers of Muon.

    Raises:
      InputError: no part has the same type and structure, or the two states have different numbers
        of parts of a type.
    """
    kinds, wanted = _by_kind(old), _by_kind(new)
    for kind in kinds.keys() & wanted.keys():
        if len(kinds[kind]) != len(wanted[kind]):
            raise InputError(
                f"config.{plan.name}.optimizer_state is 'carried', but the state of "
                f"{plan.start_run} has {len(kinds[kind])} of {kind.__name__}, and "
                f"{plan.optimizer} has {len(wanted[kind])}"
            )
    rest = {kind: iter(parts) for kind, parts in kinds.items()}
    taken = []

    def carry(part):
        if not _is_state(part) or type(part) not in rest:
            return part
        same = next(rest[type(part)])  # several of one type are matched in order
        if jax.tree.structure(part) != jax.tree.structure(same):
            return part
        taken.append(type(part))
        return same

    result = jax.tree.map(carry, new, is_leaf=_is_state)
    if not taken:
        raise InputError(
            f"config.{plan.name}.optimizer_state is 'carried', but the state of "
            f"{plan.start_run} has no part that {plan.optimizer} has"
        )
    return result


def check_carried(plans: Iterable[RunPlan]) -> None:
    """Checks, before any training, that each run that carries a state has a part to carry.

    Raises:
      InputError: the two optimizers' states have no such part, as `carried_state` says.
    """
    by_name = {plan.name: plan for plan in plans}
    for plan in by_name.values():
        if plan.optimizer_state == "carried":
            carried_state(_shapes_of(by_name[plan.start_run]), _shapes_of(plan), plan)


def _shapes_of(plan: RunPlan) -> PyTree:
    """The shapes of an optimizer's state of a few weights, which need no model and no data."""
    weights = {"matrix": jnp.zeros((2, 2)), "vector": jnp.zeros(2)}  # Muon treats the two apart
    optimizer = make_optimizer(plan.optimizer, plan.arguments, block=plan.name)
    return jax.eval_shape(optimizer.init, weights)


def at_step(state: PyTree, step: jax.Array) -> PyTree:
    """`state` with the schedule of the learning rate at the run's step, not at 0."""

    def move(part):
        # A copy for each schedule: the train loop donates their buffers.
        return part._replace(count=jnp.copy(step)) if _is_schedule(part) else part

    # The schedules may lie within other states, such as that of schedule-free AdamW.
    return jax.tree.map(move, state, is_leaf=_is_schedule)


def _is_schedule(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def _is_state(node: Any) -> bool:
    """Whether a node is one of Optax's states: a named tuple with arrays of its own.

    A wrapper, such as Muon's `PartitionState`, has all its arrays in the states that it holds.
    """
    if not _is_named_tuple(node):
        return False
    return not all(map(_is_named_tuple, jax.tree.leaves(tuple(node), is_leaf=_is_named_tuple)))


def _is_named_tuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _by_kind(state: PyTree) -> dict[type, list[Any]]:
    """The states within a state by type, in order, without the schedule's."""
    found: dict[type, list[Any]] = {}
    for part in jax.tree.leaves(state, is_leaf=_is_state):
        if _is_state(part) and not _is_schedule(part):
            found.setdefault(type(part), []).append(part)
    return found
