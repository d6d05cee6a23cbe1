"""Optimizers by name, with PyTorch's definitions, which the paper's runs use.

An update is w ← w − η_t d, with d the direction that the optimizer computes from the gradient g and
η_t = learning_rate × the schedule's factor. `weight_decay` λ is PyTorch's: g + λ w replaces g;
AdamW adds λ w to d instead. A docstring names each difference from Optax's definition.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hgeo.errors import InputError

Direction = optax.GradientTransformation


def sgd() -> Direction:
    """d = g."""
    return optax.identity()


def sgdm(momentum: float = 0.9) -> Direction:
    """SGD with momentum (SGD+M): m ← μ m + g, d = m."""
    return optax.trace(momentum)


def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Direction:
    """Adam: d = m̂ / (√v̂ + ε), with m̂ and v̂ the bias-corrected moments.

    Reference: Kingma, Ba. Adam: A Method for Stochastic Optimization. 2015.
    """
    return optax.scale_by_adam(b1, b2, eps)


def amsgrad(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Direction:
    """AMSGrad: Adam with the maximum of v over all steps in place of v.

    The maximum is over the raw v, and then bias-corrected, as in PyTorch; `optax.amsgrad` takes the
    maximum of the bias-corrected v.

    Reference: Reddi, Kale, Kumar. On the Convergence of Adam and Beyond. 2018.
    """

    def init(params):
        # Three arrays each, not the same array three times: the train loop donates their buffers.
        mu, nu, largest = (optax.tree.zeros_like(params) for _ in range(3))
        return optax.ScaleByAmsgradState(jnp.zeros((), jnp.int32), mu, nu, largest)

    def update(updates, state, params=None):
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        largest = jax.tree.map(jnp.maximum, state.nu_max, nu)
        mean = optax.tree.bias_correction(mu, b1, count)
        square = optax.tree.bias_correction(largest, b2, count)
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, square)
        return direction, optax.ScaleByAmsgradState(count, mu, nu, largest)

    return Direction(init, update)


def adagrad(eps: float = 1e-10) -> Direction:
    """Adagrad: s ← s + g², d = g / (√s + ε), s from 0.

    `optax.adagrad` starts s at 0.1 and has its ε, 1e-7, inside the root.

    Reference: Duchi, Hazan, Singer. Adaptive Subgradient Methods. 2011.
    """

    def init(params):
        return optax.ScaleByRssState(optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        squares = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, updates)
        direction = jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + eps), updates, squares)
        return direction, optax.ScaleByRssState(squares)

    return Direction(init, update)


def rmsprop(decay: float = 0.99, momentum: float = 0.0, eps: float = 1e-8) -> Direction:
    """RMSprop: v ← ρ v + (1 − ρ) g², m ← μ m + g / (√v + ε), d = m.

    `optax.rmsprop` has ρ = 0.9, ε inside the root, and the learning rate inside m.

    Reference: Tieleman, Hinton. Lecture 6.5: RMSprop. 2012.
    """
    return optax.chain(
        optax.scale_by_rms(decay, eps, eps_in_sqrt=False),
        optax.trace(momentum) if momentum else optax.identity(),
    )


class Definition(NamedTuple):
    """An optimizer that hgeo defines.

    Attributes:
      label: its name in tables and figures.
      direction: maps the optimizer's arguments to its direction.
      decoupled: whether weight decay is added to the direction instead of the gradient.
    """

    label: str
    direction: Callable[..., Direction]
    decoupled: bool = False


OPTIMIZERS = {
    "sgd": Definition("SGD", sgd),
    "sgdm": Definition("SGD+M", sgdm),
    "adam": Definition("Adam", adam),
    "adamw": Definition("AdamW", adam, decoupled=True),
    "amsgrad": Definition("AMSGrad", amsgrad),
    "adagrad": Definition("Adagrad", adagrad),
    "rmsprop": Definition("RMSprop", rmsprop),
}


def label(name: str) -> str:
    """The optimizer's name in tables and figures."""
    return OPTIMIZERS[name].label if name in OPTIMIZERS else name


def check_name(name: str) -> None:
    """Raises an InputError unless `name` names a known optimizer."""
    if name not in OPTIMIZERS and _from_optax(name) is None:
        raise InputError(
            f"unknown optimizer {name!r}; known are {', '.join(OPTIMIZERS)} and those of Optax "
            "that take a learning_rate, by Optax's names"
        )


def make_optimizer(
    name: str,
    arguments: Mapping[str, Any],
    factor: Callable[[jax.Array], Any] = lambda step: 1.0,
    max_gradient_norm: float = 0.0,
    block: str = "",
    rate: jax.Array | None = None,
) -> optax.GradientTransformation:
    """Builds the optimizer from its name and its config block.

    Args:
      name: one of `OPTIMIZERS`, or an optimizer of `optax` or `optax.contrib`.
      arguments: `learning_rate`, `weight_decay` (0 if absent) and the optimizer's arguments.
      factor: maps a step, from 0, to the factor of its learning rate.
      max_gradient_norm: a gradient of a larger norm (over all params) is scaled to this norm before
        weight decay; 0: no limit.
      block: the config block's name in messages; empty: `name`.
      rate: replaces `learning_rate`; not checked, so that it may be traced.

    Raises:
      InputError: an unknown name, an unknown argument, a rate that isn't positive, another argument
        out of its range, or an optimizer of Optax that cannot be built or updated with a schedule.
    """
    check_name(name)
    block = block or name
    ours = OPTIMIZERS.get(name)
    function: Any = _from_optax(name) if ours is None else ours.direction
    specific = [key for key in inspect.signature(function).parameters if key != "learning_rate"]
    common = ["learning_rate"] if ours is None else ["learning_rate", "weight_decay"]
    unknown = sorted(set(arguments) - set(common) - set(specific))
    if unknown:
        raise InputError(f"config.{block} has {unknown}, but takes only {[*common, *specific]}")
    given = arguments.get("learning_rate")
    if not isinstance(given, (int, float)) or not 0 < given < math.inf:
        raise InputError(f"config.{block}.learning_rate must be a positive number, not {given!r}")
    is_first = rate is None
    rate = jnp.asarray(given) if is_first else rate  # weakly typed, so float64 keeps its digits
    chosen = {key: value for key, value in arguments.items() if key in specific}
    clip = optax.clip_by_global_norm(max_gradient_norm) if max_gradient_norm else optax.identity()
    schedule = lambda step: rate * factor(step)
    if ours is None:
        if is_first:  # the updates of training are traced anyway
            _try(function, schedule, chosen, block)
        return optax.chain(clip, function(learning_rate=schedule, **chosen))
    for key in ("momentum", "b1", "b2", "decay", "eps", "weight_decay"):
        value = arguments.get(key, 0.0)
        share = key not in ("eps", "weight_decay")
        if not isinstance(value, (int, float)) or not 0 <= value < (1 if share else math.inf):
            allowed = "lie in [0, 1)" if share else "be 0 or more"
            raise InputError(f"config.{block}.{key} must {allowed}, not {value!r}")
    decay = arguments.get("weight_decay", 0.0)
    steps = [ours.direction(**chosen)]
    if decay:
        steps.insert(1 if ours.decoupled else 0, optax.add_decayed_weights(decay))
    return optax.chain(clip, *steps, optax.scale_by_learning_rate(schedule))


def preconditioner_constants(name: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of `hgeo.preconditioner` besides an optimizer's state; `None` for SGD."""
    if name in ("sgd", "sgdm"):
        return None
    ours = OPTIMIZERS.get(name)
    function: Any = _from_optax(name) if ours is None else ours.direction
    known = inspect.signature(function).parameters
    values = {key: arguments.get(key, known[key].default) for key in known}
    if name in ("adamax", "adamaxw"):
        return {"kind": "adamax"}
    return {key: values[key] for key in ("eps", "eps_root", "b2") if key in values}


def _try(
    function: Callable[..., Direction],
    schedule: Callable[[jax.Array], Any],
    arguments: Mapping[str, Any],
    block: str,
) -> None:
    """Builds an optimizer of Optax and traces an update of it with what training gives it."""
    loss = lambda params: jnp.sum(params["w"])

    def update(params):
        optimizer = optax.with_extra_args_support(function(learning_rate=schedule, **arguments))
        more = {"value": loss(params), "grad": params, "value_fn": loss, "obj_fn": loss}
        return optimizer.update(params, optimizer.init(params), params, **more)

    try:
        with jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(update, {"w": jnp.ones((2, 2))})
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"config.{block}: optax's {function.__name__} with arguments {dict(arguments)} "
            f"makes no updates from a gradient and a schedule of rates: {error}"
        ) from error


def _from_optax(name: str) -> Callable[..., optax.GradientTransformation] | None:
    """Optax's function of that name, if it is an optimizer with a learning rate."""
    import optax.contrib

    if name.startswith(("_", "scale_by_")):
        return None
    for module in (optax.contrib, optax):  # what moved there is deprecated in `optax`
        function = getattr(module, name, None)
        if (
            inspect.isfunction(function)
            and "learning_rate" in inspect.signature(function).parameters
        ):
            return function
    return None
