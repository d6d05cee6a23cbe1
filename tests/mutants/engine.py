"""Faults in adjoint-weighted forward mode."""

from tests.mutants.mutant import Mutant

SWEEP, TANGENTS = "hgeo/second_order/sweep", "hgeo/second_order/one_hot.py"
PRIMITIVES = ("tests/second_order/test_programs.py::test_the_modes_agree_on_every_primitive",)
INFINITE = (
    "tests/second_order/test_modes.py::"
    "test_infinite_curvature_adds_nothing_where_nothing_moves_or_nothing_is_weighed",
)
HEADS = ("tests/second_order/test_wide_product.py::test_a_wide_head_is_exact",)

REMAT = ("tests/second_order/test_rematerialized.py",)

MUTANTS = (
    Mutant(
        "curvature_sign",
        "the second derivative of an elementwise equation has the wrong sign",
        f"{SWEEP}/elementwise.py",
        "weight = times * _second_derivative(builder, equation, own, other) * adjoint",
        "weight = -times * _second_derivative(builder, equation, own, other) * adjoint",
        PRIMITIVES,
    ),
    Mutant(
        "cross_term_once",
        "the cross term of two roots counts once",
        f"{SWEEP}/elementwise.py",
        "times=1.0 if first == second else 2.0",
        "times=1.0",
        PRIMITIVES,
    ),
    Mutant(
        "product_term_once",
        "a product of two moving operands lacks its factor of 2",
        f"{SWEEP}/product.py",
        "return 2.0 * inner(adjoint, dense(dot(a, b)))",
        "return inner(adjoint, dense(dot(a, b)))",
        PRIMITIVES,
    ),
    Mutant(
        "infinite_curvature_unmasked",
        "an infinite second derivative is weighted with an adjoint of zero",
        f"{SWEEP}/elementwise.py",
        "return jnp.where(adjoint == 0, 0.0, weight)",
        "return weight",
        INFINITE,
    ),
    Mutant(
        "infinite_curvature_where_nothing_moves",
        "a tangent of zero is multiplied by an infinite second derivative",
        "hgeo/second_order/summation.py",
        "return total(jnp.where(product == 0, 0.0, weight.astype(dtype) * product))",
        "return total(weight.astype(dtype) * product)",
        INFINITE,
    ),
    Mutant(
        "repeated_factor_not_squared",
        "the square of a repeated tangent is weighted with its factor once",
        f"{SWEEP}/builder.py",
        "weight = weight if factor is None else weight * factor**2",
        "weight = weight if factor is None else weight * factor",
        (
            "tests/second_order/test_programs.py::"
            "test_what_is_repeated_along_an_axis_has_its_own_factor_squared",
        ),
    ),
    Mutant(
        "unopened_term_halved",
        "the second-order term of an equation that is not opened is half as large",
        f"{SWEEP}/general.py",
        "products = [inner(c, s) for",
        "products = [0.5 * inner(c, s) for",
        PRIMITIVES,
    ),
    Mutant(
        "one_hot_transposed",
        "the one-hot places of a transposed tangent are in the opposite order",
        TANGENTS,
        "index = tuple(where[order[k]] for k in axes)",
        "index = tuple(where[order[k]] for k in reversed(axes))",
        ("tests/probes/test_oracle.py::test_every_mode_agrees_with_the_dense_hessian_in_float64",),
    ),
    Mutant(
        "columns_for_rows",
        "a flat index is unravelled column by column",
        TANGENTS,
        "index.append(flat // math.prod(shape[k + 1 :]) % shape[k])",
        "index.append(flat // math.prod(shape[:k]) % shape[k])",
        PRIMITIVES,
    ),
    Mutant(
        "tanh_is_linear",
        "the table of linear primitives holds tanh",
        "hgeo/second_order/linearity.py",
        '"fft", "device_put",',
        '"fft", "tanh", "device_put",',
        PRIMITIVES,
    ),
    Mutant(
        "head_without_mirror_image",
        "the head's matrix lacks the mirror image below its diagonal blocks",
        "hgeo/second_order/wide_product.py",
        "twice = jnp.where(jnp.arange(len(rest)) < len(own), 1.0, 2.0)",
        "twice = jnp.where(jnp.arange(len(rest)) < len(own), 1.0, 1.0)",
        HEADS,
    ),
    Mutant(
        "head_without_outer_product",
        "the head's matrix W(diag p − ppᵀ)Wᵀ lacks ppᵀ",
        "hgeo/second_order/wide_product.py",
        "return factor @ self.matrix.T",
        "return 0.0 * (factor @ self.matrix.T)",
        HEADS,
    ),
    Mutant(
        "segment_dropped",
        "what the equations behind a cut point add is left out",
        "hgeo/second_order/adjoint_weighted.py",
        "return value + more, ends",
        "return value, ends",
        ("tests/second_order/test_segments.py::test_a_deep_network_agrees_with_the_dense_hessian",),
    ),
    Mutant(
        "custom_jvp_trusted",
        "any custom_jvp rule is taken for the derivative of its function",
        "hgeo/second_order/custom_rules.py",
        "return Rule(same, frozenset(names))",
        "return Rule(True, frozenset(names))",
        (
            "tests/second_order/test_modes.py::test_auto_takes_the_best_mode_that_works_and_says_why",
        ),
    ),
    Mutant(
        "pieces_before_dropped",
        "with recomputed values, what the pieces before a cut point add is left out",
        "hgeo/second_order/rematerialized.py",
        "return value + more, ends",
        "return more, ends",
        REMAT,
    ),
    Mutant(
        "recomputed_without_isolation",
        "recomputed values are an ordinary part of the program, so that all of them coexist",
        "hgeo/second_order/isolation.py",
        "    closed, shapes = jax.make_jaxpr",
        "    return function(*arguments)\n    closed, shapes = jax.make_jaxpr",
        REMAT,
    ),
    Mutant(
        "checkpoint_ignored",
        "a jax.checkpoint in the loss does not ask for recomputation",
        "hgeo/second_order/adjoint_weighted.py",
        'if remat == "block" or (remat == "auto" and traced.program.has_checkpoints):',
        'if remat == "block":',
        REMAT,
    ),
)
