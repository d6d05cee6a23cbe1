"""Every mode on every model of the zoo, and the mode that each is known to get."""

import jax
import jax.numpy as jnp
import pytest

import hgeo
from tests.integration.zoo.comparison import compare, coordinates_of, lenient
from tests.integration.zoo.registry import PACKAGES, is_installed, models_of

COVERED, FORWARD = "adjoint_weighted", "forward_over_forward"
# A custom_jvp rule on the way does not call its function, so that nothing proves it a derivative.
UNPROVED = "forward_over_reverse"
MOST_LAYERS = 3

# An operation that falls back to another mode than it had changes this table, or fails.
EXPECTED = {
    "haiku": {"transformer": COVERED, "lstm": COVERED, "gru": COVERED},
    "equinox": {"attention": COVERED, "gru": COVERED, "batch_norm": COVERED},
    "nnx": {"attention": COVERED, "batch_norm": COVERED, "lora": COVERED},
    "linen": {"scan_remat": COVERED, "recurrence": COVERED},
    "keras": {"attention": COVERED, "convolution": COVERED, "lstm": COVERED},
    "gemma": {"grouped_queries": COVERED, "fused": COVERED},
    "jraph": {"graph_network": COVERED, "graph_attention": COVERED},
    "diffrax": {"direct": UNPROVED, "adaptive": UNPROVED, "forward": FORWARD, "checkpointed": None},
    "solver": {
        "lineax_lu": COVERED,
        "lineax_cg": COVERED,
        "lineax_least_squares": COVERED,
        "fixed_point": UNPROVED,
        "newton": UNPROVED,
    },
    "numpyro": {"log_joint": COVERED, "log_normal_mixture": COVERED},
    "optax": {"ctc": COVERED, "contrastive": UNPROVED},
    "sequence": {
        "grouped_queries": COVERED,
        "masked_attention": COVERED,
        "linear_recurrence": COVERED,
        "selective_scan": COVERED,
        "experts": COVERED,
        "lora": COVERED,
        "scan_remat": COVERED,
        "fourier": COVERED,
    },
    "linear_algebra": {
        "solve": COVERED,
        "cholesky": COVERED,
        "slogdet": COVERED,
        "eigh": COVERED,
        "svd": COVERED,
        "qr": COVERED,
        "exponential": COVERED,
        "conjugate_gradients": COVERED,
        "sparse_product": COVERED,
    },
    "convolution": {"images": COVERED, "signals": COVERED, "volumes": COVERED},
    "loss": {
        "ranks": COVERED,
        "segments": COVERED,
        "inner_gradient": COVERED,
        "laplacian": COVERED,
        "gradient_penalty": COVERED,
        "special_functions": COVERED,
        "control_flow": COVERED,
        "vector_quantised": COVERED,
    },
}

# A part of these computes in float32 for any inputs: JAX's own attention its softmax,
# Keras its norms and its recurrent state.
SINGLE = {("sequence", "grouped_queries"), *(("keras", model) for model in EXPECTED["keras"])}

# Their solvers go on to a tolerance that float32 does not reach; second derivatives of special
# functions lose digits in float32 in any mode.
DOUBLE = {("loss", "special_functions"), ("solver", "fixed_point"), ("solver", "newton")}

# The operation that has no second derivative in any mode.
REFUSED = {("diffrax", "checkpointed"): "custom_vjp function"}

# They compile the longest, and others of their packages are quicker.
SLOW = {
    ("diffrax", "adaptive"),
    ("gemma", "fused"),
    ("haiku", "gru"),
    ("haiku", "lstm"),
    ("keras", "lstm"),
    ("linear_algebra", "exponential"),
    ("linen", "recurrence"),
    ("loss", "special_functions"),
    ("solver", "lineax_cg"),
    ("solver", "lineax_least_squares"),
    ("solver", "newton"),
}

CASES = [(file, model) for file, models in EXPECTED.items() for model in models]


def parameters(cases):
    marks = lambda case: [pytest.mark.slow] if case in SLOW else []
    return [pytest.param(*case, id=".".join(case), marks=marks(case)) for case in cases]


@pytest.fixture(autouse=True)
def _programs_are_dropped():
    """Models share nothing, and their compiled programs are large."""
    yield
    jax.clear_caches()


def skip_unless_installed(file):
    if not is_installed(file):
        pytest.skip(f"needs {PACKAGES[file][1]}, of which {PACKAGES[file][0]} is not installed")


def built(file, model):
    skip_unless_installed(file)
    return models_of(file)[model](jax.random.key(0))


@pytest.mark.parametrize(
    ("file", "model"), parameters([case for case in CASES if case not in REFUSED])
)
def test_every_mode_agrees_with_jvp_over_grad(file, model):
    with lenient(double=True):
        compared = compare(built(file, model), MOST_LAYERS)
    assert compared.choice.mode == EXPECTED[file][model], compared.choice.reason
    assert compared.choice.mode in compared.errors
    for name, entries in compared.truth.items():
        assert jnp.max(jnp.abs(entries)) > 1e-12, f"nothing is curved in {name}"
    tolerance = 1e-4 if (file, model) in SINGLE else 1e-10
    for mode, error in compared.errors.items():
        assert error <= tolerance, mode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "model"), parameters([case for case in CASES if case not in REFUSED.keys() | DOUBLE])
)
def test_the_mode_that_is_taken_agrees_in_float32(file, model):
    with lenient(double=False):
        compared = compare(built(file, model), MOST_LAYERS, ("auto",))
    assert compared.choice.mode == EXPECTED[file][model], compared.choice.reason
    assert compared.errors["auto"] <= 1e-4


@pytest.mark.parametrize(("file", "model"), parameters(REFUSED))
def test_no_second_derivative_is_told_by_the_operation(file, model):
    with lenient(double=True):
        case = built(file, model)
        coordinates = coordinates_of(case, MOST_LAYERS)
        for ask in (hgeo.choose_mode, hgeo.sampled_diagonal):
            with pytest.raises(ValueError, match=REFUSED[file, model]):
                ask(case.loss, case.params, case.batch, coordinates)


@pytest.mark.parametrize("file", PACKAGES)
def test_the_table_names_every_model(file):
    skip_unless_installed(file)
    assert set(models_of(file)) == set(EXPECTED[file])
