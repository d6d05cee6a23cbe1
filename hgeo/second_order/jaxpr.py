"""A traced function as one flat list of equations that can be analysed and run.

Calls that do what their body does (`jit`, `closed_call`, `remat`) are inlined. A call with a custom
derivative rule (`custom_jvp`, `custom_vjp`) or control flow stays one equation, since its body
alone does not determine its derivative.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from hgeo.second_order.explicit_axes import explicit_sharding, to_automatic, to_explicit
from hgeo.second_order.primitives import known_name

CHECKPOINTS = {"remat", "remat2", "checkpoint"}
OPENED = {"jit", "pjit", "closed_call", "core_call", *CHECKPOINTS}

# The parameters that hold the body of such a call.
BODIES = ("jaxpr", "call_jaxpr", "call")

# Their derivative is zero wherever it is defined, so no tangent passes them.
FLAT = {
    "stop_gradient", "sign", "floor", "ceil", "round", "is_finite", "nextafter",
    "eq", "ne", "lt", "le", "gt", "ge", "eq_to", "le_to", "lt_to", "argmax", "argmin",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied to numbered variables.

    Attributes:
      primitive: the JAX primitive.
      params: its parameters.
      inputs: numbers of the variables it reads.
      outputs: numbers of those it writes.
      avals: shapes and dtypes of the outputs.
      context: the JAX context that it was traced under.
      explicit: the shardings of its inputs, if it was traced on explicit mesh axes. `apply` takes
        and returns arrays on automatic axes.
    """

    primitive: core.Primitive
    params: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    avals: tuple[Any, ...]
    context: Any
    explicit: tuple[Any, ...] | None = None

    @property
    def name(self) -> str:
        """The name by which rules are looked up: `known_name` of the primitive."""
        return known_name(self.primitive)

    def apply(self, *values: Any) -> list[Any]:
        """Applies the primitive to values in place of the inputs; always a list of outputs."""
        params = self.primitive.get_bind_params(dict(self.params))
        # Some releases of JAX return the parameters that are functions separately.
        functions, params = params if isinstance(params, tuple) else ((), params)
        with self.context.manager:
            given = values if self.explicit is None else to_explicit(values, self.explicit)
            outputs = self.primitive.bind(*functions, *given, **params)
        outputs = list(outputs) if self.primitive.multiple_results else [outputs]
        return outputs if self.explicit is None else to_automatic(outputs)

    def at(self, values: Sequence[Any], free: Sequence[int]) -> Callable[..., tuple[Any, ...]]:
        """The equation as a function of the inputs at `free`, with the other inputs constant.

        It returns the inexact outputs only.
        """
        kept = [k for k, aval in enumerate(self.avals) if is_inexact(aval)]

        def function(*moved):
            full = list(values)
            for position, value in zip(free, moved, strict=True):
                full[position] = value
            outputs = self.apply(*full)
            return tuple(outputs[k] for k in kept)

        return function


def as_equation(eqn: core.JaxprEqn) -> Equation:
    """A single equation of a jaxpr, its variables numbered from 0."""
    ins, outs = len(eqn.invars), len(eqn.outvars)
    avals = tuple(var.aval for var in eqn.outvars)
    numbers = tuple(range(ins)), tuple(range(ins, ins + outs))
    return Equation(eqn.primitive, eqn.params, *numbers, avals, eqn.ctx, _explicit(eqn))


def _is_cast(eqn: core.JaxprEqn) -> bool:
    """Whether an equation only casts between explicit and automatic axes."""
    types = [explicit_sharding(atom.aval) is None for atom in (*eqn.invars, *eqn.outvars)]
    return types[0] != types[1]


def _explicit(eqn: core.JaxprEqn) -> tuple[Any, ...] | None:
    if not any(explicit_sharding(atom.aval) for atom in (*eqn.invars, *eqn.outvars)):
        return None
    return tuple(explicit_sharding(atom.aval) for atom in eqn.invars)


@dataclasses.dataclass(frozen=True)
class Program:
    """A traced function of arrays with one output.

    Attributes:
      inputs: number of arguments; they are the variables 0, 1, …
      constants: values of the constant variables.
      equations: those that the output depends on, in an order in which they can be run.
      output: the variable that is returned.
      avals: shape and dtype of every variable.
      has_checkpoints: whether the function has a `jax.checkpoint`, outside of control flow.
    """

    inputs: int
    constants: Mapping[int, Any]
    equations: tuple[Equation, ...]
    output: int
    avals: Mapping[int, Any]
    has_checkpoints: bool = False

    def run(self, arguments: Sequence[Any], taps: Mapping[int, Any] | None = None):
        """Runs the program; returns every variable's value by number.

        Args:
          arguments: the inputs' values.
          taps: arrays to add to variables as they are computed, by variable.
        """
        values = dict(self.constants) | dict(enumerate(arguments))
        run_equations(self.equations, values, {} if taps is None else taps)
        return values


def run_equations(
    equations: Iterable[Equation], values: dict[int, Any], taps: Mapping[int, Any]
) -> None:
    """Runs equations in order.

    Args:
      equations: those to run.
      values: by variable; what the equations compute is added.
      taps: as in `Program.run`.
    """
    for equation in equations:
        outputs = equation.apply(*(values[v] for v in equation.inputs))
        for variable, value in zip(equation.outputs, outputs, strict=True):
            values[variable] = value + taps[variable] if variable in taps else value


def is_inexact(aval: Any) -> bool:
    """Whether a variable can have a tangent: floating or complex."""
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.inexact)


def trace(function: Callable[..., Any], *arguments: Any) -> Program:
    """Traces a function of arrays that returns one array into a flat program."""
    return flatten(jax.make_jaxpr(function)(*arguments))


def flatten(closed: core.ClosedJaxpr, opened: Collection[str] = OPENED) -> Program:
    """A closed jaxpr as a flat program of its first output, without dead equations.

    Args:
      closed: the jaxpr.
      opened: the primitives to inline.
    """
    constants, avals, equations = {}, {}, []
    known: dict[int, int] = {}
    checkpoints: list[core.JaxprEqn] = []

    def new(aval):
        number = len(avals)
        avals[number] = aval
        return number

    def constant(value, aval):
        if id(value) not in known:
            known[id(value)] = new(aval)
            constants[known[id(value)]] = to_automatic(value)
        return known[id(value)]

    def walk(jaxpr, consts, inputs):
        numbers = dict(zip(jaxpr.constvars, consts, strict=True))
        numbers |= dict(zip(jaxpr.invars, inputs, strict=True))
        read = lambda atom: (
            constant(atom.val, atom.aval) if isinstance(atom, core.Literal) else numbers[atom]
        )
        for eqn in jaxpr.eqns:
            ins = [read(atom) for atom in eqn.invars]
            checkpoints.extend([eqn] if known_name(eqn.primitive) in CHECKPOINTS else [])
            if known_name(eqn.primitive) in opened:
                outs = walk(*_body(eqn, constant), ins)
            elif known_name(eqn.primitive) == "reshard" and _is_cast(eqn):
                outs = ins  # each equation casts its inputs itself
            else:
                outs = [new(var.aval) for var in eqn.outvars]
                equations.append(
                    dataclasses.replace(as_equation(eqn), inputs=tuple(ins), outputs=tuple(outs))
                )
            numbers.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    arguments = [new(var.aval) for var in closed.jaxpr.invars]
    consts = [
        constant(value, var.aval)
        for var, value in zip(closed.jaxpr.constvars, closed.consts, strict=True)
    ]
    output = walk(closed.jaxpr, consts, arguments)[0]

    alive, kept = {output}, []
    for equation in reversed(equations):
        if alive.intersection(equation.outputs):
            alive.update(equation.inputs)
            kept.append(equation)
    alive_equations = tuple(reversed(kept))
    return Program(len(arguments), constants, alive_equations, output, avals, bool(checkpoints))


def _body(eqn, constant):
    inner = next(eqn.params[name] for name in BODIES if name in eqn.params)
    if isinstance(inner, core.ClosedJaxpr):
        consts = zip(inner.jaxpr.constvars, inner.consts, strict=True)
        return inner.jaxpr, [constant(value, var.aval) for var, value in consts]
    return inner, []


def moving(program: Program, sources: Iterable[int]) -> set[int]:
    """The variables that have a tangent when the variables `sources` have."""
    variables = set(sources)
    for equation in program.equations:
        if equation.name not in FLAT and variables.intersection(equation.inputs):
            pairs = zip(equation.outputs, equation.avals, strict=True)
            variables.update(variable for variable, aval in pairs if is_inexact(aval))
    return variables


def reaching(program: Program) -> set[int]:
    """The variables whose tangents reach the output."""
    variables = {program.output}
    for equation in reversed(program.equations):
        if equation.name not in FLAT and variables.intersection(equation.outputs):
            variables.update(v for v in equation.inputs if is_inexact(program.avals[v]))
    return variables


def active(program: Program, needed: set[int], sources: Sequence[int]):
    """The equations through which tangents pass from `sources` to the output.

    Args:
      program: the traced loss.
      needed: the variables whose tangents reach the output, from `reaching`.
      sources: the variables that have a tangent.

    Returns:
      A list of pairs: the equation, and the positions of its inputs that have a tangent.
    """
    variables = moving(program, sources) & needed
    pairs = []
    for equation in program.equations:
        free = tuple(k for k, v in enumerate(equation.inputs) if v in variables)
        if free and equation.name not in FLAT and needed.intersection(equation.outputs):
            pairs.append((equation, free))
    return pairs
