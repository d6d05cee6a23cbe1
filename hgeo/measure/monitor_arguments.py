"""Checks of a monitor's arguments."""

import difflib
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.curvature.preconditioning import complete_constants
from hgeo.measure.context import ProbeOptions
from hgeo.measure.named import OF_PRECONDITIONER, OF_UPDATES, STATISTICS
from hgeo.params.leaf_paths import leaves_by_path
from hgeo.params.static_leaves import without

PyTree = Any

# Without `condition_number`: it compiles at every measurement, and its error for entries that are
# not finite would end the loop.
STATISTICS_OF_LOOPS = tuple(name for name in STATISTICS if name != "condition_number")


def check_statistics(names: Sequence[str]) -> None:
    """Raises a ValueError unless all names are names of a monitor's statistics."""
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    unknown = [name for name in names if name not in STATISTICS_OF_LOOPS] if listed else []
    if listed and len(set(names)) < len(names):
        raise ValueError(f"statistics must name each statistic once, not {names!r}")
    if not listed or unknown or not names:
        near = difflib.get_close_matches(unknown[0], STATISTICS_OF_LOOPS) if unknown else []
        raise ValueError(
            f"statistics must name some of {', '.join(STATISTICS_OF_LOOPS)}, not {names!r}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )


def check_optimizer(
    statistics: Sequence[str], optimizer: Any, constants: Mapping[str, Any] | None
) -> None:
    """Raises unless optimizer and constants fit the statistics that need them."""
    if optimizer is not None and not hasattr(optimizer, "update"):
        raise TypeError(f"optimizer must be one of Optax, with init and update, not {optimizer!r}")
    if constants is not None and not isinstance(constants, Mapping):
        raise TypeError(
            f'preconditioner must be a mapping such as {{"b2": 0.999}}, not {constants!r}'
        )
    if constants is not None:
        complete_constants(constants)
    for name in OF_PRECONDITIONER:
        if name in statistics and (optimizer is None or constants is None):
            raise ValueError(
                f"statistics has {name!r}, which needs optimizer= and preconditioner= (such as "
                '{"b2": 0.999} for Adam)'
            )


def check_loss(loss: Any) -> None:
    """Raises a TypeError unless the loss is a function, or a pair of functions."""
    parts = loss if isinstance(loss, tuple) else (loss,)
    if not all(map(callable, parts)) or len(parts) != (2 if isinstance(loss, tuple) else 1):
        raise TypeError(
            "the loss must be a function loss(params, batch) or a pair (outputs, head), "
            f"not {loss!r}"
        )


def check_columns(every: int, name: str, repeat: int, steps_per_epoch: float | None) -> None:
    """Raises a ValueError unless the arguments can fill the columns of a monitor's rows."""
    for argument, value, least in (("every", every, 1), ("repeat", repeat, 0)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < least:
            raise ValueError(
                f"{argument} must be a whole number of at least {least}, not {value!r}"
            )
    if not isinstance(name, str) or not name or "\n" in name:
        raise ValueError(f"name must be one line of text, not {name!r}")
    number = isinstance(steps_per_epoch, numbers.Real) and steps_per_epoch > 0
    if steps_per_epoch is not None and not number:
        raise ValueError(f"steps_per_epoch must be above 0, or None, not {steps_per_epoch!r}")


def to_options(given: Mapping[str, Any]) -> ProbeOptions:
    """The options of a monitor; raises a TypeError for an unknown option."""
    known = ProbeOptions.__dataclass_fields__
    unknown = [name for name in given if name not in known]
    if unknown:
        raise TypeError(f"a monitor has no option {unknown[0]!r}; it has {', '.join(known)}")
    options = ProbeOptions(**given)
    options.check()
    return options


def check_batch(for_all: PyTree, for_step: PyTree) -> None:
    """Raises a ValueError unless exactly one batch is given: for all steps, or for this step."""
    if (for_step is None) == (for_all is None):
        raise ValueError(
            "the monitor has a batch for all steps (batch=): leave it out of the call"
            if for_step is not None
            else "no batch was given: give it in each call, or to the monitor (batch=) for all"
        )


def check_update(
    statistics: Sequence[str], has_optimizer: bool, has_state: bool, gradient: Any, updates: Any
) -> None:
    """Raises a ValueError unless a call has the arguments that its statistics need."""
    if (gradient is None) != (updates is None):
        raise ValueError("gradient and updates must be given together")
    for name in OF_UPDATES:
        is_given = name == "alignment" and gradient is not None
        if name in statistics and not is_given and not (has_optimizer and has_state):
            raise ValueError(
                f"statistics has {name!r}, which needs optimizer= of the monitor and "
                "optimizer_state= in each call"
                + (", or gradient= and updates=" if name == "alignment" else "")
            )


def check_trainable(params: PyTree) -> None:
    """Raises a ValueError unless all arrays of the params are floating."""
    for path, leaf in leaves_by_path(params).items():
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                "an update of the optimizer needs the gradient of all params, but leaf "
                f"{path!r} is {leaf.dtype}, not floating"
            )


def as_own_state(optimizer: Any, params: PyTree, state: PyTree, error: Exception) -> PyTree:
    """A state with the leaves of the optimizer's own, such as NNX's, in the optimizer's containers.

    Raises:
      ValueError: it is another optimizer's state.
      Exception: the error of its update, if it is the optimizer's own already.
    """
    expected = jax.eval_shape(optimizer.init, without(params))
    own, given = jax.tree.structure(expected), jax.tree.structure(state)
    if own == given:
        raise error
    shapes = [
        [(path, jnp.shape(leaf)) for path, leaf in leaves_by_path(tree).items()]
        for tree in (expected, state)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"optimizer_state must be a state of the monitor's optimizer, such as {own}, "
            f"not {given}"
        ) from error
    return jax.tree.unflatten(own, jax.tree.leaves(state))
