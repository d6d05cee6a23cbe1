"""Finds second moments in Optax's states, for each leaf of the params.

The type of a state determines its form. The names of its fields do not: Optax also uses them for
momenta (SM3) and for averages of a Hessian (Sophia).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.errors import NoSecondMomentError

PyTree = Any


class Form(NamedTuple):
    """How P follows from a state of some kind.

    Attributes:
      moment: the field that holds v, or P if `rooted` is false.
      steps: the field that counts the steps, if v may be corrected for its bias.
      mean: the field of the mean whose square is subtracted, if v is centered.
      rooted: whether P has the root of v.
      momenta: fields of averages of the gradient.
    """

    moment: str
    steps: str | None = None
    mean: str | None = None
    rooted: bool = True
    momenta: tuple[str, ...] = ()


KINDS = {
    "adam": Form("nu", "count", momenta=("mu",)),
    "adamax": Form("nu", rooted=False, momenta=("mu",)),
    "amsgrad": Form("nu_max", "count", momenta=("mu",)),
    "adabelief": Form("nu", "count", momenta=("mu",)),
    "ademamix": Form("nu", "count", momenta=("m1", "m2")),
    "simplified_ademamix": Form("n", "t", momenta=("m",)),
    "rmsprop": Form("nu"),
    "corrected_rmsprop": Form("nu", "count"),
    "centered_rmsprop": Form("nu", mean="mu", momenta=("mu",)),
    "adagrad": Form("sum_of_squares"),
}

# The kinds that a type of state may have; the first is the default.
OF_STATES = {
    "ScaleByAdamState": ("adam", "adamax"),
    "ScaleByAmsgradState": ("amsgrad",),
    "ScaleByBeliefState": ("adabelief",),
    "ScaleByAdemamixState": ("ademamix",),
    "ScaleBySimplifiedAdEMAMixState": ("simplified_ademamix",),
    "ScaleByRmsState": ("rmsprop",),
    "ScaleByRmsWithCountState": ("corrected_rmsprop",),
    "ScaleByRStdDevState": ("centered_rmsprop",),
    "ScaleByRssState": ("adagrad",),
}

# States that hold the states of other transformations of the params' gradients.
_WRAPPERS = {
    "MaskedState": "inner_state",
    "PartitionState": "inner_states",
    "MultiTransformState": "inner_states",
    "InjectHyperparamsState": "inner_state",
    "InjectStatefulHyperparamsState": "inner_state",
    "MultiStepsState": "inner_opt_state",
    "ApplyIfFiniteState": "inner_state",
    "ConditionallyTransformState": "inner_state",
    "ConditionallyMaskState": "inner_state",
    "ScheduleFreeState": "base_optimizer_state",
}

# States with arrays that do not change P: averages of updates, noise, line searches, records.
_MOMENTA = {"TraceState": ("trace",), "EmaState": ("ema",)}
_NEUTRAL = {
    *_MOMENTA,
    "AddNoiseState",
    "ApplyEvery",
    "MonitorState",
    "ScaleByBacktrackingLinesearchState",
    "ScaleByOptimisticGradientState",
    "ScaleByZoomLinesearchState",
    "SnapshotState",
}


class _OtherArraysError(Exception):
    """The states belong to different params, for example to a projection of them."""


class Share(NamedTuple):
    """The P of a leaf of the params, or the reason why it has none."""

    diagonal: jax.Array | None
    reason: str = ""


class Own:
    """A `Share` as a leaf of a pytree."""

    def __init__(self, share: Share):
        """Holds the share."""
        self.share = share


def check_kind(kind: str | None) -> None:
    """Raises a ValueError unless `kind` is one of `KINDS` or `None`."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, or None, not {kind!r}")


def shares(
    opt_state: PyTree, kind: str | None, make: Callable[[Form, Any, Any, Any], Any]
) -> PyTree:
    """The share of each leaf of the params: a pytree whose leaves are `Own`.

    Args:
      opt_state: any Optax state, nested or not.
      kind: one of `KINDS`, for a type of state with several kinds; `None`: the type's first kind.
      make: (form, state, the leaf's moment, the leaf's mean) -> P of the leaf.

    Raises:
      NoSecondMomentError: no state has that kind, or no leaf has a P.
    """
    states = _states(opt_state)
    names = [_name(state) for state in states]
    known = [state for state in states if _name(state) in OF_STATES]
    others = [s for s in states if _name(s) not in (OF_STATES.keys() | _NEUTRAL) and _arrays(s)]
    of_kind = [name for name in OF_STATES if kind in (None, *OF_STATES[name])]
    problem = ""
    if kind is not None and not set(of_kind) & set(names):
        problem = f", such as kind={kind!r} has ({', '.join(of_kind)})"
    loose = [name for state, name in zip(states, names, strict=True) if not _is_state(state)]
    found = None
    if known and not problem and not loose:
        trees = [_of_state(state, _kind_of(_name(state), kind), make) for state in known]
        try:
            found = _merged(trees + [tree for state in others for tree in _unknown(state)])
        except _OtherArraysError:
            problem = " of the params themselves"
    owned = [own.share for own in jax.tree.leaves(found) if isinstance(own, Own)]
    if not any(share.diagonal is not None for share in owned):
        reasons = dict.fromkeys(share.reason for share in owned)
        raise NoSecondMomentError(
            f"the optimizer's state must hold one second moment{problem} for each leaf that it "
            f"trains, in one of {', '.join(OF_STATES)}, not {len(known)}; it consists of {names}"
            + "".join(f"; {reason}" for reason in reasons)
        )
    return found


def is_masked(node: Any) -> bool:
    """Whether a node is Optax's `MaskedNode`, which replaces leaves that are not transformed."""
    return type(node).__name__ == "MaskedNode" and _of_optax(node)


def without_momenta(opt_state: PyTree) -> PyTree:
    """The state with its known averages of the gradient set to zero."""

    def stilled(state):
        if not _is_known(state):
            return state
        name = _name(state)
        fields = _MOMENTA.get(name, ())
        for kind in OF_STATES.get(name, ()):
            fields = KINDS[kind].momenta
        zeros = {field: jax.tree.map(jnp.zeros_like, getattr(state, field)) for field in fields}
        return state._replace(**zeros)

    return jax.tree.map(stilled, opt_state, is_leaf=_is_known)


def number_of_updates(opt_state: PyTree) -> jax.Array | None:
    """The updates of an optimizer that accumulates gradients; `None` for any other."""
    is_multi_steps = lambda node: _is_state(node) and _name(node) == "MultiStepsState"
    for node in jax.tree.leaves(opt_state, is_leaf=is_multi_steps):
        if is_multi_steps(node):
            return node.gradient_step
    return None


def _kind_of(name: str, kind: str | None) -> str:
    return kind if kind is not None and kind in OF_STATES[name] else OF_STATES[name][0]


def _of_state(state: Any, kind: str, make: Callable[..., Any]) -> PyTree:
    form = KINDS[kind]
    moment = getattr(state, form.moment)
    means = moment if form.mean is None else getattr(state, form.mean)
    own = lambda v, m: v if is_masked(v) else Own(Share(make(form, state, v, m)))
    return jax.tree.map(own, moment, means, is_leaf=is_masked)


def _unknown(state: Any) -> list[PyTree]:
    """The leaves that a state of an unknown form acts on, with the reason why they have no P."""
    reason = f"{_name(state)} has no P of a known form"
    own = lambda leaf: leaf if is_masked(leaf) else Own(Share(None, reason))
    fields = [getattr(state, name) for name in state._fields]
    return [
        jax.tree.map(own, field, is_leaf=is_masked)
        for field in fields
        if any(_ndim(leaf) for leaf in jax.tree.leaves(field))
    ]


def _merged(trees: list[PyTree]) -> PyTree:
    """Merges pytrees, each of which holds some of the leaves, into one."""
    present = [tree for tree in trees if not is_masked(tree)]
    if len(present) < 2:
        return (present or trees or [None])[0]
    owned = [tree.share for tree in present if isinstance(tree, Own)]
    if len(owned) == len(present):
        reasons = [share.reason for share in owned if share.reason]
        return Own(Share(None, reasons[0] if reasons else "two second moments act on one leaf"))
    levels = [jax.tree.flatten(tree, is_leaf=lambda x, t=tree: x is not t) for tree in present]
    columns, (whole, *rest) = zip(*levels, strict=True)
    if owned or any(structure != whole for structure in rest):
        raise _OtherArraysError
    return jax.tree.unflatten(whole, [_merged(list(each)) for each in zip(*columns, strict=True)])


def _states(opt_state: PyTree) -> list[Any]:
    """The states in a state; a wrapper is replaced by the states that it holds."""
    states = []
    for node in jax.tree.leaves(opt_state, is_leaf=_is_state):
        if _is_state(node) and _name(node) in _WRAPPERS:
            states += _states(getattr(node, _WRAPPERS[_name(node)]))
        elif _is_state(node) or _ndim(node):
            states.append(node)
    return states


def _is_state(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields") and not is_masked(node)


def _is_known(node: Any) -> bool:
    return _is_state(node) and _name(node) in (OF_STATES.keys() | _MOMENTA.keys())


def _name(node: Any) -> str:
    """The type's name, with its module unless it is Optax's."""
    kind = type(node)
    return kind.__name__ if _of_optax(node) else f"{kind.__module__}.{kind.__name__}"


def _of_optax(node: Any) -> bool:
    return type(node).__module__.partition(".")[0] == "optax"


def _arrays(state: Any) -> bool:
    return any(_ndim(leaf) for leaf in jax.tree.leaves(state))


def _ndim(leaf: Any) -> int:
    return getattr(leaf, "ndim", 0)
