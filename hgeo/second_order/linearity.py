"""Tables of the primitives that are linear in their moving inputs, or act element by element.

An input *moves* if it has a tangent: it depends on the probed weights. A new primitive of JAX needs
at most a row in these tables. Without a row, `obstacles` traces its derivatives and `sweep.general`
uses them: exact, but slower. A primitive that needs more than a row has a planner in `sweep`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hgeo.second_order.jaxpr import Equation, Program, moving, trace

# Linear or piecewise linear in all floating operands together: the second derivative is zero
# wherever it is defined.
LINEAR = {
    "add", "add_any", "sub", "neg", "copy", "copy_p", "convert_element_type", "real", "imag",
    "conj", "complex", "reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "rev",
    "slice", "dynamic_slice", "dynamic_update_slice", "concatenate", "pad", "split", "select_n",
    "gather", "scatter", "scatter-add", "scatter_add", "reduce_sum", "cumsum", "reduce_window_sum",
    "fft", "device_put", "sharding_constraint", "optimization_barrier", "name", "reduce_precision",
    "psum", "psum2", "psum_invariant", "pbroadcast", "pvary", "pcast", "ppermute", "all_gather",
    "all_gather_invariant", "reduce_scatter", "all_to_all", "mesh_cast", "unvary", "reshard",
    "max", "min", "abs", "clamp", "rem", "reduce_max", "reduce_min", "sort", "top_k", "cummax",
    "cummin", "reduce_window_max", "reduce_window_min", "select_and_gather_add",
    "select_and_scatter_add", "scatter_min", "scatter_max", "scatter-min", "scatter-max",
}  # fmt: skip

# Linear in each of the two operands while the other is constant.
BILINEAR = {"mul", "dot_general", "conv_general_dilated"}

# Output element k depends on element k of each operand (or on an operand without axes).
ELEMENTWISE = {
    "abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt",
    "clamp", "copy", "copy_p", "cos", "cosh", "digamma", "div", "erf", "erf_inv", "erfc", "exp",
    "exp2", "expm1", "integer_pow", "lgamma", "log", "log1p", "logistic", "max", "min", "mul",
    "neg", "pow", "reduce_precision", "rem", "rsqrt", "select_n", "sin", "sinh", "sqrt", "square",
    "sub", "tan", "tanh", "convert_element_type", "bessel_i0e", "bessel_i1e", "polygamma",
}  # fmt: skip

_ELEMENT_PREDICATES = {
    "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "xor", "sign", "floor", "ceil",
    "round", "is_finite", "stop_gradient",
}  # fmt: skip


class LinearityRules:
    """Which equations of one program are linear or elementwise; each answer is cached."""

    def __init__(self, program: Program):
        """Takes the program that the equations belong to."""
        self.avals = program.avals
        self._linear: dict[tuple[Equation, tuple[int, ...]], bool] = {}
        self._elementwise: dict[tuple[Equation, tuple[int, ...]], bool] = {}

    def is_linear(self, equation: Equation, free: Sequence[int]) -> bool:
        """Whether the second derivative in the inputs at positions `free` is zero."""
        if equation.name == "abs":  # not linear in a complex number
            return jnp.issubdtype(self.avals[equation.inputs[0]].dtype, jnp.floating)
        if equation.name in LINEAR:
            return True
        if equation.name in BILINEAR:
            return len(free) == 1
        if equation.name in ("div", "triangular_solve"):
            return list(free) == [0 if equation.name == "div" else 1]
        key = (equation, tuple(free))
        if key not in self._linear:
            self._linear[key] = self._has_constant_slope(equation, free)
        return self._linear[key]

    def is_elementwise(self, equation: Equation, free: Sequence[int]) -> bool:
        """Whether each output element depends on one element of each real input at `free`.

        An input may be broadcast to the output's shape: a scalar, or along axes of size 1.
        """
        key = (equation, tuple(free))
        if key not in self._elementwise:
            self._elementwise[key] = self._goes_pairwise(equation, free)
        return self._elementwise[key]

    def _goes_pairwise(self, equation, free):
        if len(equation.outputs) != 1:
            return False
        shape = equation.avals[0].shape
        avals = [self.avals[equation.inputs[k]] for k in free] + list(equation.avals)
        if any(not jnp.issubdtype(aval.dtype, jnp.floating) for aval in avals):
            return False
        if equation.name in ELEMENTWISE:
            return all(_repeats(aval.shape, shape) for aval in avals)
        if equation.name != "custom_jvp_call" or any(aval.shape != shape for aval in avals):
            return False
        rule = self._slope(equation, free)
        names = ELEMENTWISE | _ELEMENT_PREDICATES
        return all(
            eqn.name in names or (eqn.name == "broadcast_in_dim" and _reads_scalar(rule, eqn))
            for eqn in rule.equations
        )

    def _has_constant_slope(self, equation, free):
        # Piecewise linear: the derivative rule reads the inputs through comparisons alone.
        if len(equation.outputs) != 1 or equation.name in _BODIES:
            return False
        rule = self._slope(equation, free)
        return rule.output not in moving(rule, range(len(free)))

    def _slope(self, equation, free):
        """The derivative along tangents: a program of points, tangents and the other inputs."""
        avals = [self.avals[v] for v in equation.inputs]
        fixed = [k for k in range(len(avals)) if k not in free]
        num_moving = len(free)

        def slope(*arguments):
            full = dict(zip(fixed, arguments[2 * num_moving :], strict=True))
            values = [full.get(k) for k in range(len(avals))]
            points, tangents = arguments[:num_moving], arguments[num_moving : 2 * num_moving]
            return jax.jvp(equation.at(values, free), points, tangents)[1][0]

        moved = [avals[k] for k in free]
        return trace(slope, *moved, *moved, *[avals[k] for k in fixed])


_BODIES = {"scan", "while", "cond", "custom_vjp_call", "custom_vjp_call_jaxpr", "shard_map"}


def _repeats(small, shape):
    pairs = zip(small, shape, strict=True) if len(small) == len(shape) else ()
    return small == () or (len(small) == len(shape) and all(a in (1, b) for a, b in pairs))


def _reads_scalar(program, equation):
    return program.avals[equation.inputs[0]].shape == ()
