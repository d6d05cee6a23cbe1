"""The diagonal preconditioner of an adaptive optimizer, and curvature preconditioned by it."""

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
    """Computes the diagonal P that an adaptive optimizer divides by, from its Optax state.

        P = √(v̂ + eps_root) + eps,   v̂ = v / (1 − b2^t),  or v̂ = v if b2 is None

    The moment v is the second moment (Adam, AdamW, Yogi, LAMB, RMSprop), its maximum over the steps
    (AMSGrad), the sum of squares (Adagrad), the average of (g − m)² (AdaBelief), or the average of
    g² minus the squared average of g (centered RMSprop). For Adamax P is the maximum of the decayed
    |g|. A preconditioned Hessian's diagonal is H_ii / P_ii.

    The type of a state determines its kind. Optax uses Adam's type for the states of Adamax, RAdam
    and ADOPT, and AdaBelief's type for that of ACProp. So P may be wrong for these, unless `kind`
    names Adamax. With `optimizer` and `params`, hgeo compares P with the optimizer's updates. It
    then refuses optimizers of another form (RAdam, ADOPT, ACProp), and a wrong `kind` or `eps`. It
    does not detect a factor common to all entries of a leaf, such as that of a wrong `b2`.

    Args:
      opt_state: any Optax state, nested or not, with one second moment for each leaf that has a P
        (`optax.partition` has several moments, each of some leaves).
      eps: the optimizer's eps outside the root; Adamax's state includes it.
      eps_root: the optimizer's eps inside the root, as `eps` in Optax's RMSprop and Adagrad.
      b2: the decay rate of a second moment with bias correction, as in Adam; `None` for no
        correction, or if the state holds the corrected moment (Optax's AMSGrad).
      kind: "adam", "adamax", "amsgrad", "adabelief", "ademamix", "simplified_ademamix",
        "rmsprop", "corrected_rmsprop", "centered_rmsprop" or "adagrad"; `None`: by the state's
        type, "adam" for `ScaleByAdamState`.
      optimizer: the Optax optimizer of the state; hgeo computes three of its updates.
      params: the params that it trains; required with `optimizer`.

    Returns:
      A pytree of the params' structure, shapes and dtypes, in the units of the gradient. A leaf
      that the optimizer does not train, or without such a moment, has an `optax.MaskedNode`.

    Raises:
      ValueError: no leaf has a second moment of a known form (SGD, Lion, Adafactor, SM3), or a leaf
        has two; `kind` is unknown or does not match the state; `b2` is given for a moment without
        bias correction, or before the first update; the optimizer's updates contradict P, or its
        moments are not of the params' structure (`optax.flatten`).

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
    diagonal = diagonal_and_reasons(opt_state, constants)[0]
    if (optimizer is None) != (params is None):
        raise ValueError("optimizer and params must be given together")
    if optimizer is not None:
        wrong = differences(
            optimizer, params, lambda state: diagonal_and_reasons(state, constants)[0]
        )
        if wrong:
            raise ValueError("; ".join(f"leaf {path!r}: {why}" for path, why in wrong.items()))
    return diagonal


def diagonal_and_reasons(
    opt_state: PyTree, constants: Mapping[str, Any]
) -> tuple[PyTree, dict[str, str]]:
    """The result of `preconditioner`, and by path the reasons why leaves have no P."""
    values = complete_constants(constants)
    b2 = values["b2"]

    def make(form, state, moment, mean):
        v = moment / jnp.asarray(_correction(form, state, b2), moment.dtype)
        if form.mean is not None:
            v = v - mean * mean
        return jnp.sqrt(v + values["eps_root"]) + values["eps"] if form.rooted else v

    by_leaf = shares(opt_state, values["kind"], make)
    reasons = {
        path: own.share.reason for path, own in leaves_by_path(by_leaf).items() if own.share.reason
    }
    return jax.tree.map(_diagonal_of, by_leaf), reasons


def complete_constants(constants: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `preconditioner` besides a state, with defaults for those not given.

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
        raise ValueError(f"b2={b2} was given, but {type(state).__name__} {what}: leave b2 out")
    steps = getattr(state, form.steps)
    if not isinstance(steps, Tracer) and steps == 0:
        raise ValueError("before the first update the state has no second moment for b2 to correct")
    # expm1, since 1 − b2^t loses digits in float32.
    return -jnp.expm1(steps.astype(jnp.float32) * math.log(b2)) if b2 else 1.0


def preconditioned(loss: Loss, diagonal: PyTree) -> Loss:
    """Builds a loss whose Hessian is the given loss's, preconditioned by a diagonal P.

        P^(-1/2) H P^(-1/2)

    It is the Hessian in the coordinates √P w, in which the optimizer's step is a gradient step. Any
    probe takes this loss.

    Args:
      loss: `loss(params, batch)`.
      diagonal: P, positive, a pytree of the params' structure and shapes, such as `preconditioner`
        returns. Its values for params that are not floating are ignored. Params that are not
        trained, or are not arrays, have an `optax.MaskedNode` or `None` (as from
        `equinox.filter`); the loss has no derivative in these params.

    Returns:
      `loss(params, batch)`, with the value of the given loss.

    Raises:
      ValueError: a call raises it for a diagonal of another structure or other shapes, and a
        derivative in a leaf that has no P raises it with the leaf's path.

    Example:
      >>> loss = lambda params, batch: jnp.sum(batch * params**2)
      >>> scaled = hgeo.preconditioned(loss, jnp.array([1.0, 4.0]))
      >>> layers = hgeo.find_layers(jnp.ones(2), lambda path, leaf: True)
      >>> coordinates = hgeo.sample_coordinates(layers, 2, jax.random.key(0))
      >>> print(hgeo.sampled_diagonal(scaled, jnp.ones(2), jnp.array([1.0, 4.0]), coordinates)[""])
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
    """Whether a node of a diagonal stands for params that are not trained or not arrays."""
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
            "second moment of it; leave out the layers that hold it",
        )

    return without_preconditioner
