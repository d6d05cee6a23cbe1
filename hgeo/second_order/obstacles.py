"""Finds the operations between layers and loss that have no second derivative, or no vmap."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from hgeo.second_order.custom_rules import rule_of
from hgeo.second_order.jaxpr import (
    FLAT,
    OPENED,
    Equation,
    as_equation,
    is_inexact,
    moving,
    reaching,
)
from hgeo.second_order.linearity import BILINEAR, ELEMENTWISE, LINEAR
from hgeo.second_order.primitives import is_own
from hgeo.second_order.quadratic_form import ProbePoints
from hgeo.second_order.traced_loss import trace_loss

PyTree = Any

# Operations whose derivatives all exist and can be vmapped. Any other operation is traced to see.
_COMMON = LINEAR | BILINEAR | ELEMENTWISE | FLAT | {"div", "triangular_solve", "cumprod"}

# Their obstacles are those of their bodies.
_TRANSPARENT = OPENED | {"scan", "cond", "shard_map"}

_CUSTOM_VJP = {"custom_vjp_call", "custom_vjp_call_jaxpr"}

# JAX stages this primitive where a `custom_vjp` function has no forward derivative.
_NO_DERIVATIVE = "custom_lin"

# Kernels and calls of foreign or host code, which may have no lowering for this machine.
_KERNELS = {"pallas_call", "pure_callback", "io_callback", "ffi_call", "triton_kernel_call"}


class Obstacles(NamedTuple):
    """Operations between layers and loss, in words.

    Attributes:
      derivatives: those that adjoint-weighted mode, and perhaps every mode, can't differentiate.
      batching: those that can't be vmapped.
      tried: unknown operations whose jvp over grad can be traced; other modes are not tried.
    """

    derivatives: tuple[str, ...]
    batching: tuple[str, ...]
    tried: tuple[str, ...]


def find_obstacles(
    total: Callable[[PyTree], jax.Array], params: PyTree, probe_points: ProbePoints
) -> Obstacles:
    """The obstacles among the equations through which the layers' tangents pass to the loss."""
    layers = {name: chosen.layer for name, chosen in probe_points.items()}
    program, sources, _ = trace_loss(total, params, layers)
    on_the_way = moving(program, {source for own in sources.values() for source in own})
    on_the_way &= reaching(program)
    search = _Search()
    for equation in program.equations:
        free = tuple(k for k, v in enumerate(equation.inputs) if v in on_the_way)
        if free and on_the_way.intersection(equation.outputs):
            search.look_at(equation, [program.avals[v] for v in equation.inputs], free)
    return Obstacles(tuple(search.derivatives), tuple(search.batching), tuple(search.tried))


def not_to_be_run(jaxpr: core.Jaxpr) -> str | None:
    """Why some equation of a jaxpr can't be lowered or run, in words; `None` if all can."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == _NO_DERIVATIVE:
            return "a custom_vjp function has no forward derivative"
        if not is_own(eqn.primitive) or eqn.primitive.name in _KERNELS:
            try:
                jax.jit(as_equation(eqn).apply).lower(*map(_shape, _avals(eqn)))
            except Exception as error:  # a library's own rule may raise any error
                return f"{eqn.primitive.name!r} cannot be lowered: {error}"
        for body in core.jaxprs_in_params(dict(eqn.params)):
            if problem := not_to_be_run(body):
                return problem
    return None


class _Search:
    """The obstacles of the equations seen so far; the dicts are ordered sets."""

    def __init__(self):
        self.derivatives: dict[str, None] = {}
        self.batching: dict[str, None] = {}
        self.tried: dict[str, None] = {}

    def look_at(self, equation: Equation, avals: Sequence[Any], free: Sequence[int]) -> None:
        name, params = equation.name, equation.params
        if name in _COMMON:
            return
        if name in _CUSTOM_VJP:
            self.derivatives[f"the custom_vjp function {function_name(params)!r}"] = None
        elif name == "while":
            self.derivatives["a while loop of unknown length"] = None
        elif name == "custom_jvp_call":
            label, rule = f"the custom_jvp function {function_name(params)!r}", rule_of(equation)
            if not rule.is_derivative:
                self.derivatives[f"{label}, whose rule need not be its derivative"] = None
            elif not rule.operations <= _COMMON:
                self._try(label, equation, avals, free)
        elif name in _TRANSPARENT:
            for body in core.jaxprs_in_params(dict(params)):
                self._look_into(body)
        elif name in _KERNELS:
            label = f"the kernel or callback {function_name(params, name)!r} ({name})"
            self._try(label, equation, avals, free)
        else:
            self._try(f"the operation {equation.primitive.name!r}", equation, avals, free)

    def _look_into(self, body: core.Jaxpr) -> None:
        for eqn in body.eqns:
            avals = _avals(eqn)
            free = [k for k, aval in enumerate(avals) if is_inexact(aval)]
            if free and any(is_inexact(var.aval) for var in eqn.outvars):
                self.look_at(as_equation(eqn), avals, free)

    def _try(self, label, equation, avals, free):
        """Traces an equation's second derivative along two directions at once, or along one."""
        shapes = [_shape(aval) for aval in avals]
        moved = [shapes[k] for k in free]
        outputs = [_shape(aval) for aval in equation.avals if is_inexact(aval)]
        curve = _second_order(equation, free)
        several = [jax.ShapeDtypeStruct((2, *s.shape), s.dtype) for s in (*moved, *outputs)]
        num_moving = len(moved)
        for way, steps in (
            (jax.vmap(curve, in_axes=(None, None, 0, 0)), several),
            (curve, [*moved, *outputs]),
        ):
            try:
                jaxpr = jax.make_jaxpr(way)(
                    shapes, outputs, steps[:num_moving], steps[num_moving:]
                ).jaxpr
            except Exception:  # a library's own rule may raise any error
                continue
            if not_to_be_run(jaxpr) is None:
                self.tried[label] = None
                if way is curve:
                    self.batching[label] = None
                return
        self.derivatives[label] = None


def _second_order(equation: Equation, free: Sequence[int]):
    """(inputs, adjoints, their tangents) -> the tangents of outputs and pulled-back adjoints."""

    def curve(values, adjoints, steps, adjoint_steps):
        function = equation.at(values, free)

        def with_pullback(points, adjoints):
            outputs, pullback = jax.vjp(function, *points)
            return outputs, pullback(tuple(adjoints))

        points = [values[k] for k in free]
        return jax.jvp(with_pullback, (points, adjoints), (steps, adjoint_steps))[1]

    return curve


def _avals(eqn: core.JaxprEqn) -> list[Any]:
    return [var.aval for var in eqn.invars]


def _shape(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def function_name(params: Any, default: str = "unnamed") -> str:
    """The name of the function among an equation's parameters."""
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
