"""Decides whether a `custom_jvp` rule is the derivative of its function's value."""

import collections
import functools
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

from hgeo.errors import NoPreconditionerError
from hgeo.second_order.jaxpr import BODIES, OPENED, Equation, Program, flatten, is_inexact
from hgeo.second_order.primitives import known_name

# Their value is that of their body; their rules concern derivatives and vmap alone.
_OPENED_FOR_VALUES = OPENED | {
    "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_vmap_call",
}  # fmt: skip

# The modules of JAX that hold elementary functions.
_PLAIN = ("jax._src.nn.", "jax._src.numpy.", "jax._src.scipy.", "jax._src.third_party.")

_MOST_REMEMBERED = 256


class Rule(NamedTuple):
    """Properties of a `custom_jvp` function's rule.

    Attributes:
      is_derivative: whether the rule provably returns the value of the function's body and the
        derivative of that value.
      operations: the names of the primitives in its rule.
    """

    is_derivative: bool
    operations: frozenset[str]


_remembered: "collections.OrderedDict[Any, Rule]" = collections.OrderedDict()


def rule_of(equation: Equation) -> Rule:
    """The properties of a `custom_jvp_call`'s rule.

    Let the rule map x and ẋ to y and ẏ. It counts as a derivative if two pairs of programs agree
    equation by equation: y and the function's body; ẏ and JAX's derivative of y along ẋ. This holds
    for a rule that calls the function itself for its value. All modes then use the rule.

    The programs are compared, not evaluated: values at some points prove nothing. So a rule that is
    right but written in another way does not count as a derivative.
    """
    body: core.ClosedJaxpr = equation.params["call_jaxpr"]
    avals = [var.aval for var in body.jaxpr.invars]
    key = (_function(equation, body), tuple((aval.shape, aval.dtype) for aval in avals))
    if key not in _remembered:
        _remembered[key] = _read(equation, body, avals)
    _remembered.move_to_end(key)
    while len(_remembered) > _MOST_REMEMBERED:
        _remembered.popitem(last=False)
    return _remembered[key]


def _function(equation: Equation, body: core.ClosedJaxpr) -> Any:
    """A key that identifies the function of an equation.

    A program has many calls of JAX's elementary functions, whose rules close over nothing. So their
    key is their source line and body; they are recognised by the module that defines them.
    """
    info = str(getattr(body.jaxpr.debug_info, "func_src_info", ""))
    file = info.rpartition(" at ")[2].rpartition(":")[0]
    if file in _files_of_functions(tuple(name for name in sys.modules if name.startswith(_PLAIN))):
        return info, str(body)
    return equation.params["jvp_jaxpr_fun"], equation.params["num_consts"]


@functools.lru_cache(maxsize=1)
def _files_of_functions(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(str(getattr(sys.modules[name], "__file__", None)) for name in names)


def _read(equation: Equation, body: core.ClosedJaxpr, avals: Sequence[Any]) -> Rule:
    free = [k for k, aval in enumerate(avals) if is_inexact(aval)]
    num_inputs = len(avals)

    def rule(*values):
        points, steps = tuple(values[k] for k in free), values[num_inputs:]
        return jax.jvp(equation.at(values[:num_inputs], free), points, steps)

    def value(*values):
        return rule(*values, *(jnp.zeros_like(values[k]) for k in free))[0]

    def slope(*values):
        points, steps = tuple(values[k] for k in free), values[num_inputs:]

        def value_at(*moved):
            full = list(values[:num_inputs])
            for k, x in zip(free, moved, strict=True):
                full[k] = x
            return value(*full)

        return jax.jvp(value_at, points, steps)[1]

    with_steps = [*avals, *[avals[k] for k in free]]
    try:
        y, y_dot = jax.make_jaxpr(value)(*avals), jax.make_jaxpr(rule)(*with_steps)
        own_slope = jax.make_jaxpr(slope)(*with_steps)
    except NoPreconditionerError:  # hgeo's own rule raises it for the user
        raise
    except Exception:  # a rule may raise any error; `choose` then reports that no mode works
        return Rule(False, frozenset())
    kept = [k for k, aval in enumerate(equation.avals) if is_inexact(aval)]
    same = all(
        _same(_output(y, n), _output(body, k))
        and _same(_output(y_dot, len(kept) + n), _output(own_slope, n))
        for n, k in enumerate(kept)
    )
    opened = OPENED | {"custom_jvp_call"}
    rules = [_output(y_dot, n, opened) for n in range(2 * len(kept))]
    names = {equation.name for program in rules for equation in program.equations}
    return Rule(same, frozenset(names))


def _output(
    closed: core.ClosedJaxpr, k: int, opened: Collection[str] = _OPENED_FOR_VALUES
) -> Program:
    """The program of one output, for a comparison by value."""
    jaxpr = closed.jaxpr
    return flatten(closed.replace(jaxpr=jaxpr.replace(outvars=[jaxpr.outvars[k]])), opened)


def _same(first: Program, second: Program) -> bool:
    """Whether two programs apply the same equations to the same inputs, in any order."""
    numbering = _Numbering()
    return numbering.number(first) == numbering.number(second)


class _Numbering:
    """Numbers the values of programs: equal numbers mean equal values."""

    def __init__(self):
        self._constants: list[tuple[int, Any]] = []
        self._made: dict[Any, list[tuple[Mapping[str, Any], list[int]]]] = {}
        self._next = 0

    def number(self, program: Program) -> int:
        numbers = {k: -1 - k for k in range(program.inputs)}
        numbers |= {variable: self._constant(x) for variable, x in program.constants.items()}
        for equation in program.equations:
            inputs = tuple(numbers[v] for v in equation.inputs)
            known = self._made.setdefault((equation.primitive, inputs), [])
            outputs = next((outs for p, outs in known if _alike(p, equation.params)), None)
            if outputs is None:
                outputs = [self._new() for _ in equation.outputs]
                known.append((equation.params, outputs))
            numbers.update(zip(equation.outputs, outputs, strict=True))
        return numbers[program.output]

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _constant(self, value: Any) -> int:
        for number, other in self._constants:
            if _alike(other, value):
                return number
        self._constants.append((self._new(), value))
        return self._next


def _alike(first: Any, second: Any) -> bool:
    """Whether two constants, or two parameters of a primitive, are provably equal."""
    if first is second:
        return True
    if isinstance(first, Tracer) or isinstance(second, Tracer):
        return False
    if isinstance(first, core.ClosedJaxpr) and isinstance(second, core.ClosedJaxpr):
        return _alike(first.jaxpr, second.jaxpr) and _alike(first.consts, second.consts)
    if isinstance(first, core.Jaxpr) and isinstance(second, core.Jaxpr):
        return _alike_bodies(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_alike(first[k], second[k]) for k in first)
    if isinstance(first, (tuple, list)) and isinstance(second, (tuple, list)):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, (np.ndarray, np.generic, jax.Array)):
        if getattr(second, "dtype", None) != first.dtype or np.shape(second) != first.shape:
            return False
        if jnp.issubdtype(first.dtype, jax.dtypes.extended):
            return False
        # Compared as bytes: 0.0 differs from -0.0, and NaN equals NaN.
        return np.asarray(first).tobytes() == np.asarray(second).tobytes()
    try:
        return type(first) is type(second) and bool(first == second)
    except Exception:  # a parameter's own comparison may raise any error
        return False


def _alike_bodies(first: core.Jaxpr, second: core.Jaxpr) -> bool:
    matched: dict[Any, Any] = {}

    def bind(mine, its):
        matched.update(zip(mine, its, strict=True))
        return all(map(_alike_avals, mine, its))

    def reads(mine, its):
        if isinstance(mine, core.Literal) or isinstance(its, core.Literal):
            both = isinstance(mine, core.Literal) and isinstance(its, core.Literal)
            return (
                both
                and _alike_avals(mine, its)
                and _alike(np.asarray(mine.val), np.asarray(its.val))
            )
        return matched.get(mine) is its

    pairs = [(first.constvars, second.constvars), (first.invars, second.invars)]
    lengths = [*pairs, (first.eqns, second.eqns), (first.outvars, second.outvars)]
    if any(len(mine) != len(its) for mine, its in lengths):
        return False
    if not all(bind(mine, its) for mine, its in pairs):
        return False
    for mine, its in zip(first.eqns, second.eqns, strict=True):
        if mine.primitive is not its.primitive or len(mine.invars) != len(its.invars):
            return False
        if not all(map(reads, mine.invars, its.invars)) or len(mine.outvars) != len(its.outvars):
            return False
        if not _alike(_kept_params(mine), _kept_params(its)) or not bind(mine.outvars, its.outvars):
            return False
    return all(map(reads, first.outvars, second.outvars))


def _kept_params(eqn: core.JaxprEqn) -> Mapping[str, Any]:
    """The parameters that an equation's value depends on."""
    if known_name(eqn.primitive) in _OPENED_FOR_VALUES:
        return {k: v for k, v in eqn.params.items() if k in BODIES}
    return eqn.params


def _alike_avals(first: Any, second: Any) -> bool:
    return (first.aval.shape, first.aval.dtype) == (second.aval.shape, second.aval.dtype)
