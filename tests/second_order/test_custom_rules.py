"""`custom_jvp` rules, right and wrong ones, and primitives that a library defines."""

import functools
import importlib.util
import itertools

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.core import ShapedArray
from jax.extend import core
from jax.interpreters import ad, batching, mlir

import hgeo
from tests.probes.dense import error, quick
from tests.second_order.test_custom_vjp import (
    BATCH,
    COORDINATES,
    PARAMS,
    repeated,
    scaled,
    squares,
)

RULES = {
    # A rule, and whether it is the derivative of its value, which it computes by a call of f.
    "itself": ("tanh(C * x)", "f(x), dx * C * (1 - f(x) ** 2)", True),
    "estimator": ("round(4 * x) / 4", "f(x), dx * C", True),  # consistent, whatever it is
    "not_itself": ("tanh(C * x)", "jnp.tanh(C * x), dx * C * (1 - jnp.tanh(C * x) ** 2)", False),
    "straight_through": ("round(4 * x) / 4", "jnp.round(4 * x) / 4, dx", False),
    "one_percent_off": ("tanh(x)", "jnp.tanh(x), dx * jnp.exp(-(x**2) * C)", False),
    "itself_in_the_slope": ("tanh(x)", "jnp.tanh(x), dx * f(x)", False),
    "another_value": ("tanh(x)", "jnp.sin(C * x), dx * C * jnp.cos(C * x)", False),
    "a_constant_off": ("sin(C * x)", "f(x) + 0.0, dx * C * jnp.cos(C * x)", False),
}
FOLDERS = ("jax", "flax", "optax", "equinox", "mine")
SOURCE = """
import jax
import jax.numpy as jnp

C = {constant}

@jax.custom_jvp
def f(x):
    return jnp.{body}

@f.defjvp
def _rule(primals, tangents):
    (x,), (dx,) = primals, tangents
    return {rule}
"""


def below(folder, parent, rule, constant):
    """The function f of a file with a rule, below a folder of some name."""
    body, text, _ = RULES[rule]
    path = parent / folder / "layers" / f"{rule}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE.format(constant=constant, body=body, rule=text))
    spec = importlib.util.spec_from_file_location(f"{folder}_{rule}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.f


def sine_loss(function):
    return lambda params, batch: jnp.mean(jnp.sin(function(batch @ params["w"])) ** 2)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_rule_is_judged_by_what_it_computes_and_not_by_its_folder(folder, tmp_path):
    for rule, (_, _, right) in RULES.items():
        loss = sine_loss(below(folder, tmp_path, rule, 0.7))
        choice = hgeo.choose_mode(loss, PARAMS, BATCH, COORDINATES)
        assert (choice.mode == "adjoint_weighted") == right, (rule, choice)
        if not right:
            assert choice.mode == "forward_over_reverse"
            assert "'f', whose rule need not be its derivative" in choice.reason


@hypothesis.settings(
    max_examples=10,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    folder=st.sampled_from(FOLDERS),
    rules=st.permutations(list(RULES)),
    constant=st.floats(0.25, 2.0, width=16),
)
def test_rules_right_and_wrong_give_what_jvp_over_grad_gives(tmp_path, folder, rules, constant):
    first, second = (below(folder, tmp_path, rule, constant) for rule in rules[:2])
    loss = sine_loss(lambda x: second(x + 0.3 * first(x)))
    found, expected = quick(
        lambda p, b: [
            hgeo.sampled_diagonal(loss, p, b, COORDINATES, mode=mode, chunk_size=12)["w"]
            for mode in ("auto", "forward_over_reverse")
        ]
    )(PARAMS, BATCH)
    np.testing.assert_allclose(found, expected, atol=1e-5 * (1e-3 + np.max(np.abs(expected))))


def test_functions_of_jax_flax_optax_and_equinox_are_covered():
    norm = eqx.nn.LayerNorm(3)
    activations = [
        jax.nn.relu, jax.nn.relu6, jax.nn.silu, jax.nn.softmax, jax.nn.logsumexp, jax.nn.gelu,
        jax.nn.log_softmax, jax.nn.softplus, jax.nn.elu, jax.nn.selu, jax.nn.mish, jnp.sinc,
        nn.relu, jax.vmap(norm), lambda z: jnp.logaddexp(z, 2 * z),
        lambda z: jax.scipy.special.xlogy(z**2, z**2 + 1),
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, jnp.arange(6) % 3),
        lambda z: optax.sigmoid_binary_cross_entropy(z, jnp.zeros((6, 3))),
        lambda z: optax.huber_loss(z), lambda z: optax.projections.projection_simplex(z[0]),
    ]  # fmt: skip

    def loss(params, batch):
        z = batch @ params["w"]
        return sum((jnp.mean(jnp.sin(f(z))) for f in activations), start=0.0)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        choice = hgeo.choose_mode(loss, PARAMS, BATCH, COORDINATES)
    assert choice == ("adjoint_weighted", "every equation on the way is covered", True)


def primitive(name, value, slope, batched=True):
    """A library's primitive of one operand; `slope` gives its derivative as a function."""
    own = core.Primitive(name)
    own.def_impl(jax.jit(value))
    own.def_abstract_eval(lambda x: ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(own, mlir.lower_fun(value, multiple_results=False))
    if slope is not None:
        ad.defjvp(own, lambda g, x: g * slope(x))
    if batched:
        batching.defvectorized(own)
    return own.bind


@pytest.mark.slow
def test_a_primitive_of_a_library_is_tried_and_not_taken_for_linear_by_its_name():
    # It has the name of a piecewise linear operation of JAX.
    cube = primitive("max", lambda x: x**3, lambda x: 3 * x**2)
    loss = sine_loss(cube)
    assert hgeo.choose_mode(loss, PARAMS, BATCH, COORDINATES).mode == "adjoint_weighted"
    found = hgeo.sampled_diagonal(loss, PARAMS, BATCH, COORDINATES, chunk_size=12)["w"]
    plain = sine_loss(lambda x: x**3)
    assert error(found, hgeo.sampled_diagonal(plain, PARAMS, BATCH, COORDINATES)["w"]) < 1e-5


def test_a_primitive_without_a_second_derivative_is_refused_by_its_name():
    flat = primitive("its_slope", jnp.cos, None)
    for wave in (primitive("no_slope", jnp.sin, None), primitive("wave", jnp.sin, flat)):
        with pytest.raises(ValueError, match=r"no mode can.*the operation '(no_slope|wave)'"):
            hgeo.choose_mode(sine_loss(wave), PARAMS, BATCH, COORDINATES)


def test_a_derivative_that_can_be_staged_but_not_lowered_is_no_derivative():
    absent = core.Primitive("absent")
    absent.def_abstract_eval(lambda x: ShapedArray(x.shape, x.dtype))
    ad.defjvp(absent, lambda g, x: g)
    batching.defvectorized(absent)
    curved = primitive("curved", jnp.sin, absent.bind)
    with pytest.raises(ValueError, match="the operation 'curved'"):
        hgeo.choose_mode(sine_loss(curved), PARAMS, BATCH, COORDINATES)


def test_what_is_announced_is_lowered_and_run(tmp_path):
    functions = [squares, functools.partial(scaled, 2.0), repeated(scaled)]
    functions += [below("mine", tmp_path, rule, 0.5) for rule in ("itself", "straight_through")]
    for function, size in itertools.product(functions, (None, 4)):
        loss = sine_loss(function)
        choice = hgeo.choose_mode(loss, PARAMS, BATCH, COORDINATES, microbatch_size=size)
        probe = functools.partial(
            hgeo.sampled_diagonal, loss, mode=choice.mode, microbatch_size=size
        )
        lowered = jax.jit(probe).lower(PARAMS, BATCH, COORDINATES)
        assert "func.func public @main" in lowered.as_text()
