"""Second moments in Optax's states: which form each known state has, leaf by leaf.

A state is known by its type, never by the names of its fields, which Optax also gives to momenta
(SM3) and to averages of a Hessian (Sophia).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.errors import NoSecondMomentError

PyTree = Any


class Form(NamedTuple):
    """How the P of a kind is made of its state.

    Attributes:
      moment: field of what stands below the root, or is P itself.
      steps: field that counts the steps, of a moment that may be corrected for its bias.
      mean: field of a mean whose square is taken off, of a centered moment.
      rooted: whether the moment stands below a root.
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

# The kinds that a state may be of; the first is taken where none is given.
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

# States that hold those of other transformations, which act on the params' own gradients.
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

# States with arrays that leave P as it is: averages of what comes, noise, line searches, records.
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
    """States that are not all of the same params: of a projection of them, for one."""


class Share(NamedTuple):
    """What one leaf of the params has: P, or the reason why it has none."""

    diagonal: jax.Array | None
    reason: str = ""


class Own:
    """A `Share` as a leaf of a pytree."""

    def __init__(self, share: Share):
        """Takes it."""
        self.share = share


def check_kind(kind: str | None) -> None:
    """Raises a ValueError unless it is one of `KINDS` or `None`."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, or None, not {kind!r}")


def shares(
    opt_state: PyTree, kind: str | None, make: Callable[[Form, Any, Any, Any], Any]
) -> PyTree:
    """The share of each leaf of the params, a pytree with `Own` for leaves.

    Args:
      opt_state: any Optax state, nested as it may be.
      kind: one of `KINDS`, of the states of a type that has several; `None`, the first.
      make: (form, state, its entry of the moment, its entry of the mean) -> P of a leaf.

    Raises:
      NoSecondMomentError: no state is of that kind, or no leaf has a P.
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
            f"trains, in one of {', '.join(OF_STATES)}, not {len(known)}; it is made of {names}"
            + "".join(f"; {reason}" for reason in reasons)
        )
    return found


def is_masked(node: Any) -> bool:
    """Whether a node stands for a leaf, or several, that a transformation leaves alone."""
    return type(node).__name__ == "MaskedNode" and _of_optax(node)


def without_momenta(opt_state: PyTree) -> PyTree:
    """A state whose averages of the gradient, as far as they are known, are zero."""

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
    """One pytree of several, each of which holds some of the leaves."""
    present = [tree for tree in trees if not is_masked(tree)]
    if len(present) < 2:
        return (present or trees or [None])[0]
    owned = [tree.share for tree in present if isinstance(tree, Own)]
    if len(owned) == len(present):
        reasons = [share.reason for share in owned if share.reason]
        return Own(Share(None, reasons[0] if reasons else "two second moments act on one leaf"))
    levels = [jax.tree.flatten(tree, is_leaf=lambda x, t=tree: x is not t) for tree in present]
    columns, (whole, *rest) = zip(*levels, strict=True)
    if owned or any(one != whole for one in rest):
        raise _OtherArraysError
    return jax.tree.unflatten(whole, [_merged(list(each)) for each in zip(*columns, strict=True)])


def _states(opt_state: PyTree) -> list[Any]:
    """The states in a state, those in wrappers in the place of the wrappers."""
    found = []
    for node in jax.tree.leaves(opt_state, is_leaf=_is_state):
        if _is_state(node) and _name(node) in _WRAPPERS:
            found += _states(getattr(node, _WRAPPERS[_name(node)]))
        elif _is_state(node) or _ndim(node):
            found.append(node)
    return found


def _is_state(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields") and not is_masked(node)


def _is_known(node: Any) -> bool:
    return _is_state(node) and _name(node) in (OF_STATES.keys() | _MOMENTA.keys())


def _name(node: Any) -> str:
    """The type's name; with its module, if it isn't one of Optax."""
    own = type(node)
    return own.__name__ if _of_optax(node) else f"{own.__module__}.{own.__name__}"


def _of_optax(node: Any) -> bool:
    return type(node).__module__.partition(".")[0] == "optax"


def _arrays(state: Any) -> bool:
    return any(_ndim(leaf) for leaf in jax.tree.leaves(state))


def _ndim(leaf: Any) -> int:
    return getattr(leaf, "ndim", 0)
