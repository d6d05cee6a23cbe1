"""Modes: which way to a Hessian diagonal a loss allows, and which is the best of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core

from hgeo.probes.adjoint_weighted import AdjointWeighted, trace_loss
from hgeo.probes.layer_forms import Along
from hgeo.probes.nested import forward_over_forward, forward_over_reverse
from hgeo.probes.program import Equation, as_equation, is_inexact, moving, reaching

PyTree = Any
Total = Callable[[PyTree], jax.Array]

MODES = {
    "adjoint_weighted": AdjointWeighted,
    "forward_over_reverse": forward_over_reverse,
    "forward_over_forward": forward_over_forward,
}

# Primitives whose derivative is not known from a body: kernels and calls out of the program.
_KERNELS = {"pallas_call", "pure_callback", "io_callback", "ffi_call", "triton_kernel_call"}


class ModeChoice(NamedTuple):
    """The mode that a probe takes and why.

    Attributes:
      mode: a scalar str, one of "adjoint_weighted", "forward_over_reverse" and
        "forward_over_forward".
      reason: a sentence.

    Example:
      >>> hgeo.ModeChoice("forward_over_reverse", "it was asked for").mode
      'forward_over_reverse'
    """

    mode: str
    reason: str


def check_mode(mode: str) -> None:
    """Raises a ValueError unless `mode` is "auto" or names a mode."""
    if mode != "auto" and mode not in MODES:
        raise ValueError(f"mode must be 'auto' or one of {sorted(MODES)}, not {mode!r}")


def choose(
    mode: str,
    total: Total,
    params: PyTree,
    along: Along,
) -> ModeChoice:
    """The mode to take for one loss, where `mode` may be "auto".

    Adjoint-weighted mode, unless on the way from the layers to the loss there is

    - a `custom_vjp` function, which has a reverse rule alone, or a `custom_jvp` function whose
      rule need not be its derivative (a straight-through estimator): jvp over grad, which keeps
      to the rule in one derivative and takes the function's code in the other;
    - a `while` of unknown length, which has no reverse rule: jvp over jvp.

    Raises:
      ValueError: a function or kernel on the way has no second derivative.
    """
    check_mode(mode)
    obstacles = _obstacles(total, params, along)
    if not obstacles:
        if mode == "auto":
            return ModeChoice("adjoint_weighted", "every equation on the way is covered")
        return ModeChoice(mode, "it was asked for")

    named = ", ".join(obstacles)
    tried = ("forward_over_reverse", "forward_over_forward") if mode == "auto" else (mode,)
    failure: Exception | None = None
    for candidate in tried:
        if candidate == "adjoint_weighted":
            continue
        try:
            jax.eval_shape(lambda p, m=candidate: _one_of_each(MODES[m], total, p, along), params)
        except Exception as error:  # JAX raises several kinds, and user rules any
            failure = error
            continue
        reason = f"on the way there is {named}" if mode == "auto" else "it was asked for"
        return ModeChoice(candidate, reason)
    who = "no mode can" if mode == "auto" else f"mode={mode!r} cannot"
    raise ValueError(
        f"{who} differentiate the loss twice: on the way from the layers to it there is {named}"
    ) from failure


def _one_of_each(mode, total, params, along):
    return [form(along[name].points[0]) for name, form in mode(total, params, along).items()]


def _obstacles(total, params, along):
    layers = {name: chosen.layer for name, chosen in along.items()}
    program, sources, _ = trace_loss(total, params, layers)
    found = moving(program, {source for own in sources.values() for source in own})
    on_the_way = found & reaching(program)
    names: dict[str, None] = {}
    for equation in program.equations:
        if on_the_way.intersection(equation.inputs) and on_the_way.intersection(equation.outputs):
            names |= dict.fromkeys(_named(equation))
    return list(names)


def _named(equation: Equation) -> list[str]:
    """The obstacles in one equation and the bodies that it runs."""
    name, params = equation.name, equation.params
    if name.startswith("custom_vjp_call"):
        return [f"the custom_vjp function {_function_name(params)!r}"]
    if name == "while":
        return ["a while loop of unknown length"]
    if name in _KERNELS:
        return [f"the kernel or callback {_function_name(params, name)!r} ({name})"]
    if name == "custom_jvp_call":
        label = f"the custom_jvp function {_function_name(params)!r}, whose rule does not call it"
        return [] if is_own_derivative(equation) else [label]
    return [
        label
        for body in core.jaxprs_in_params(dict(params))
        for eqn in body.eqns
        for label in _named(as_equation(eqn))
    ]


def is_own_derivative(equation: Equation) -> bool:
    """Whether a `custom_jvp` rule is surely the derivative of the value that it gives.

    It is taken to be so if the rule calls the function itself for its value, so that every
    derivative goes by the rule, or if the function is one of JAX's or Flax's own.
    """
    own = equation.params["call_jaxpr"].jaxpr.debug_info
    source = str(getattr(own, "func_src_info", "")).replace("\\", "/")
    if any(f"/{package}/" in source for package in ("jax", "flax", "optax", "equinox")):
        return True
    avals = [var.aval for var in equation.params["call_jaxpr"].jaxpr.invars]
    free = [k for k, aval in enumerate(avals) if is_inexact(aval)]

    def rule(*values):
        points = tuple(values[k] for k in free)
        return jax.jvp(equation.at(values, free), points, points)

    inside = jax.make_jaxpr(rule)(*avals).jaxpr.eqns
    return any(
        eqn.primitive.name == "custom_jvp_call"
        and _function_name(eqn.params) == _function_name(equation.params)
        for eqn in inside
    )


def _function_name(params, default="unnamed"):
    for key in ("name", "call_jaxpr", "fun_jaxpr", "jaxpr", "callback", "name_and_src_info"):
        value = params.get(key)
        if isinstance(value, str) and value:
            return value
        for holder in (value, getattr(value, "jaxpr", None), getattr(value, "callback_func", None)):
            name = getattr(getattr(holder, "debug_info", None), "func_name", None)
            name = name or getattr(holder, "__name__", None)
            if name:
                return name
    return default
