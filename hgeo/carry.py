"""The optimizer's state of a run that goes on from another one's iterate."""

from typing import Any

import jax
import optax

from hgeo.errors import InputError
from hgeo.plan import RunPlan

PyTree = Any


def carried_state(old: PyTree, new: PyTree, plan: RunPlan) -> PyTree:
    """`new` with every part that `old` has too: states of one kind, as Optax names them.

    Momentum goes from SGD+M to RMSprop, and both moments from Adam to AdamW.

    Raises:
      InputError: they have nothing in common.
    """
    kinds = {type(part): part for part in _parts(old)}
    kinds.pop(optax.ScaleByScheduleState, None)
    taken = []

    def carry(part):
        same = kinds.get(type(part)) if _is_state(part) else None
        if same is None or jax.tree.structure(part) != jax.tree.structure(same):
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


def at_step(state: PyTree, step: jax.Array) -> PyTree:
    """`state` with the schedule of the learning rate at the run's step, not at 0."""

    def move(part):
        return part._replace(count=step) if isinstance(part, optax.ScaleByScheduleState) else part

    return jax.tree.map(move, state, is_leaf=_is_state)


def _is_state(node: Any) -> bool:
    """Whether a node is one of Optax's states: a named tuple with arrays in it."""
    return isinstance(node, tuple) and hasattr(node, "_fields") and bool(jax.tree.leaves(node))


def _parts(state: PyTree) -> list[Any]:
    return [part for part in jax.tree.leaves(state, is_leaf=_is_state) if _is_state(part)]
