"""What an adaptive optimizer sees: the curvature after its own diagonal preconditioner."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from hgeo.curvature.second_moments import Form, Own, check_kind, is_masked, shares
from hgeo.curvature.update_response import differences
from hgeo.errors import NoPreconditionerError
from hgeo.losses import Loss
from hgeo.params.leaf_paths import leaves_by_path
from hgeo.params.static_leaves import is_array

PyTree = Any


def preconditioner(
    opt_state: PyTree,
    *,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    b2: float | None = None,
    kind: str | None = None,
    optimizer: Any = None,
    params: PyTree = None,
) -> PyTree:
    """The diagonal P by which an adaptive optimizer divides, read from its Optax state.

        P = √(v̂ + eps_root) + eps,   v̂ = v / (1 − b2^t)  or v itself where b2 is None

    with v the second moment (Adam, AdamW, Yogi, LAMB, RMSprop), the largest so far (AMSGrad), the
    sum of squares (Adagrad), the average of (g − m)² (AdaBelief) or, in centered RMSprop, the
    average of g² less the squared average of g. In Adamax P is the largest decayed |g| itself.
    Entries of a diagonal in these coordinates are H_ii / P_ii.

    A state is known by its type. Optax gives the states of Adamax, RAdam and ADOPT the type of
    Adam's (and that of ACProp the type of AdaBelief's): the state alone cannot tell them, and is
    taken to be Adam's unless `kind` says otherwise. Give `optimizer` and `params`, and P is held
    to the updates that the optimizer makes, which refuses what is not of this form (RAdam, ADOPT,
    ACProp), and a wrong `kind` or `eps`. Only a factor that all entries of a leaf share, as a
    wrong `b2` gives, is not seen.

    Args:
      opt_state: any Optax state, nested as it may be, with one second moment for each leaf that
        has a P (`optax.partition` has several, of some leaves each).
      eps: as the optimizer has it, outside the root. Adamax has it in its state.
      eps_root: inside the root, as Optax's RMSprop and Adagrad have their `eps`.
      b2: the decay rate of a second moment that is corrected for its bias, as Adam's is. Optax's
        AMSGrad keeps what is corrected already: none.
      kind: "adam", "adamax", "amsgrad", "adabelief", "ademamix", "simplified_ademamix",
        "rmsprop", "corrected_rmsprop", "centered_rmsprop" or "adagrad"; `None`, that of the
        state's type, Adam for `ScaleByAdamState`.
      optimizer: that of Optax whose state it is; three of its updates are computed.
      params: those that it trains, with `optimizer`.

    Returns:
      A pytree of the params' structure, shapes and dtypes, in the units of the gradient. Leaves
      that the optimizer does not train, or without such a moment, have an `optax.MaskedNode`.

    Raises:
      ValueError: no leaf has a second moment of a known form (SGD, Lion, Adafactor, SM3), or some
        have two; `kind` is unknown or not that of the state; `b2` given for one that is not
        corrected, or before the first update; the optimizer's updates are others.

    Example:
      >>> import optax
      >>> params = {"kernel": jnp.ones((2, 2))}
      >>> optimizer = optax.adam(1e-3)
      >>> _, state = optimizer.update(params, optimizer.init(params))
      >>> print(hgeo.preconditioner(state, b2=0.999)["kernel"][0].round(5))
      [1. 1.]

    Reference:
      Kingma, Ba. Adam: A Method for Stochastic Optimization. 2015.
    """
    constants = {"eps": eps, "eps_root": eps_root, "b2": b2, "kind": kind}
    found = diagonal_and_reasons(opt_state, constants)[0]
    if (optimizer is None) != (params is None):
        raise ValueError("optimizer and params must be given together")
    if optimizer is not None:
        wrong = differences(
            optimizer, params, lambda state: diagonal_and_reasons(state, constants)[0]
        )
        if wrong:
            raise ValueError("; ".join(f"leaf {path!r}: {why}" for path, why in wrong.items()))
    return found


def diagonal_and_reasons(
    opt_state: PyTree, constants: Mapping[str, Any]
) -> tuple[PyTree, dict[str, str]]:
    """What `preconditioner` gives, and by path the reasons why leaves have none."""
    values = complete_constants(constants)
    b2 = values["b2"]

    def make(form, state, moment, mean):
        v = moment / jnp.asarray(_correction(form, state, b2), moment.dtype)
        if form.mean is not None:
            v = v - mean * mean
        return jnp.sqrt(v + values["eps_root"]) + values["eps"] if form.rooted else v

    found = shares(opt_state, values["kind"], make)
    reasons = {
        path: own.share.reason for path, own in leaves_by_path(found).items() if own.share.reason
    }
    return jax.tree.map(_diagonal_of, found), reasons


def complete_constants(constants: Mapping[str, Any]) -> dict[str, Any]:
    """What `preconditioner` takes besides a state, with the defaults of what is not given.

    Raises:
      ValueError: an unknown name, or a value out of its range.
    """
    values = {"eps": 1e-8, "eps_root": 0.0, "b2": None, "kind": None}
    unknown = [name for name in constants if name not in values]
    if unknown:
        raise ValueError(f"preconditioner takes {', '.join(values)}, not {unknown[0]!r}")
    values |= constants
    for name in ("eps", "eps_root"):
        if isinstance(values[name], (int, float)) and not values[name] >= 0:
            raise ValueError(f"{name} must be 0 or more, not {values[name]}")
    if isinstance(values["b2"], (int, float)) and not 0 <= values["b2"] < 1:
        raise ValueError(f"b2 must lie in [0, 1), not {values['b2']}")
    check_kind(values["kind"])
    return values


def _diagonal_of(own: Own) -> Any:
    if own.share.diagonal is not None:
        return own.share.diagonal
    import optax

    return optax.MaskedNode()


def _correction(form: Form, state: Any, b2: Any) -> Any:
    """1 − b2^t."""
    if b2 is None:
        return 1.0
    if form.steps is None:
        what = "counts no steps" if form.rooted else "is not corrected for its bias"
        raise ValueError(f"b2={b2} was given, but {type(state).__name__} {what}")
    steps = getattr(state, form.steps)
    if not isinstance(steps, Tracer) and steps == 0:
        raise ValueError("before the first update there is no second moment to correct")
    # Of 1 − b2^t float32 keeps few digits.
    return -jnp.expm1(steps.astype(jnp.float32) * math.log(b2)) if b2 else 1.0


def preconditioned(loss: Loss, diagonal: PyTree) -> Loss:
    """A loss whose Hessian is that of another one, preconditioned by a diagonal.

        P^(-1/2) H P^(-1/2)

    the Hessian in the coordinates √P w, in which the optimizer's step is a plain gradient step.
    Its spectrum, rows and diagonal are what the optimizer sees. Give it to any probe.

    Args:
      loss: `loss(params, batch)`.
      diagonal: P, a pytree of the params' structure and shapes, positive; `preconditioner` reads
        it from an optimizer's state. Leaves of the params that are not floating have one that is
        not used. An `optax.MaskedNode`, or the None that `equinox.filter` leaves, stands for params
        that are not trained or are no arrays: the derivative by them is refused by name, all
        others are right.

    Returns:
      `loss(params, batch)`, with the value of the other one.

    Raises:
      ValueError: when it is called, for a diagonal of another structure or other shapes; when it
        is differentiated by a leaf that has no P.

    Example:
      >>> loss = lambda params, batch: jnp.sum(batch * params**2)
      >>> seen = hgeo.preconditioned(loss, jnp.array([1.0, 4.0]))
      >>> layers = hgeo.find_layers(jnp.ones(2), lambda path, leaf: True)
      >>> coordinates = hgeo.sample_coordinates(layers, 2, jax.random.key(0))
      >>> print(hgeo.sampled_diagonal(seen, jnp.ones(2), jnp.array([1.0, 4.0]), coordinates)[""])
      [2. 2.]

    Reference:
      Cohen et al. Adaptive Gradient Methods at the Edge of Stability. 2022.
    """

    def of_scaled(params, batch):
        names = iter(leaves_by_path(params))

        def moved(own, leaves):
            return jax.tree.map(lambda leaf: of_leaf(next(names), leaf, own), leaves)

        def of_leaf(name, leaf, own):
            if not (is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)):
                return leaf
            if _is_missing(own):
                return _fixed(name)(leaf)
            if jnp.shape(own) != jnp.shape(leaf):
                raise ValueError(
                    f"the diagonal must have the shapes of the params: at {name!r} it has "
                    f"{jnp.shape(own)}, and they have {jnp.shape(leaf)}"
                )
            start = jax.lax.stop_gradient(leaf)
            return start + (leaf - start) * jax.lax.rsqrt(jnp.asarray(own, leaf.dtype))

        try:
            jax.tree.map(lambda own, leaves: None, diagonal, params, is_leaf=_is_missing)
        except ValueError as error:
            raise ValueError(
                "the diagonal must have the structure of the params, "
                f"{jax.tree.structure(params)}, not {jax.tree.structure(diagonal)}"
            ) from error
        return loss(jax.tree.map(moved, diagonal, params, is_leaf=_is_missing), batch)

    return of_scaled


def _is_missing(node: Any) -> bool:
    """Whether a node of a diagonal stands for what is not trained, or is no array."""
    return node is None or is_masked(node)


def _fixed(name: str) -> Any:
    """The identity at a leaf without P, which has no derivative."""

    @jax.custom_jvp
    def without_preconditioner(leaf):
        return leaf

    @without_preconditioner.defjvp
    def refuse(primals, tangents):
        raise NoPreconditionerError(
            name,
            f"leaf {name!r} has no preconditioner: the optimizer does not train it, or has no "
            "second moment of it; leave its layers out",
        )

    return without_preconditioner
