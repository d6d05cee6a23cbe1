"""Random small programs of covered primitives, on which the three modes must agree."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import hgeo
from hgeo.second_order.modes import MODES
from tests.probes.dense import quick

SIZE = 3

# Each maps (SIZE, SIZE) matrices to one; most are smooth everywhere.
UNARY = {
    "tanh": jnp.tanh,
    "sin": jnp.sin,
    "exp": lambda x: jnp.exp(0.3 * jnp.tanh(x)),
    "logistic": jax.nn.sigmoid,
    "erf": jax.scipy.special.erf,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "square": jnp.square,
    "cube": lambda x: x**3,
    "rsqrt": lambda x: jax.lax.rsqrt(1.0 + x**2),
    "log": lambda x: jnp.log1p(x**2),
    "softmax": lambda x: jax.nn.softmax(x, axis=0),
    "log_softmax": lambda x: jax.nn.log_softmax(x, axis=-1),
    "norm": lambda x: (
        (x - jnp.mean(x, axis=-1, keepdims=True))
        / jnp.sqrt(jnp.var(x, axis=-1, keepdims=True) + 0.1)
    ),
    "transpose": jnp.transpose,
    "reshape": lambda x: x.reshape(1, 9).reshape(3, 3).T,
    "reverse": lambda x: x[::-1],
    "cumsum": lambda x: jnp.cumsum(x, axis=0),
    "cumprod": lambda x: jnp.cumprod(1.0 + 0.2 * jnp.tanh(x), axis=1),
    "roll": lambda x: jnp.roll(x, 1, axis=1),
    "max": lambda x: x - jnp.max(x, axis=-1, keepdims=True),
    "sort": lambda x: jnp.sort(x, axis=0),
    "logsumexp": lambda x: x + jax.nn.logsumexp(x, axis=0, keepdims=True),
    "prod": lambda x: jnp.broadcast_to(jnp.prod(x, axis=0)[None], x.shape),
    "gather": lambda x: x[jnp.array([2, 0, 0])],
    "scatter_add": lambda x: x.at[jnp.array([1, 1])].add(jnp.sin(x[:2])),
    "scatter": lambda x: x.at[0].set(x[1] ** 2),
    "pad": lambda x: jnp.pad(x, ((1, 0), (0, 1)))[:SIZE, 1:],
    "clip": lambda x: jnp.clip(x, -0.7, 0.9),
    "pool": lambda x: jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (2, 2), (1, 1), ((0, 1), (0, 1))
    ),
    "convolution": lambda x: jax.scipy.signal.convolve2d(x, x[:2, :2], mode="same"),
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) @ x),
    "jit": jax.jit(lambda x: jnp.cos(x) * x),
    "scan": lambda x: jax.lax.scan(lambda c, row: (jnp.tanh(c + row), c * row), x[0], x)[1],
    "cond": lambda x: jax.lax.cond(jnp.sum(x) > 0, lambda x: x**2, lambda x: jnp.sin(x), x),
    "stopped": lambda x: x * jax.lax.stop_gradient(x),
    "solve": lambda x: jnp.linalg.solve(jnp.eye(SIZE, dtype=x.dtype) * 4.0 + jnp.tanh(x), x),
    "mapped": lambda x: jax.vmap(lambda row: jnp.outer(row, row) @ row)(x),
    "fft": lambda x: jnp.real(jnp.fft.fft(x, axis=0)) + jnp.abs(jnp.fft.fft(x + 2.0, axis=1)),
}
BINARY = {
    "add": jnp.add,
    "subtract": jnp.subtract,
    "multiply": jnp.multiply,
    "divide": lambda x, y: x / (2.0 + jnp.tanh(y)),
    "power": lambda x, y: (1.5 + jnp.tanh(x)) ** jnp.tanh(y),
    "arctan2": lambda x, y: jnp.arctan2(x, 3.0 + y**2),
    "maximum": jnp.maximum,
    "where": lambda x, y: jnp.where(x > y, x * y, y),
    "matmul": lambda x, y: 0.5 * x @ y,
    "einsum": lambda x, y: jnp.einsum("ij,kj->ki", x, y) / 3.0,
    "concatenate": lambda x, y: jnp.concatenate([x, y])[1 : SIZE + 1],
    "attention": lambda x, y: jax.nn.softmax(x @ y.T, axis=-1) @ y,
    "batched": lambda x, y: jnp.einsum("ij,ijk->ik", x, y[:, :, None] * x[:, None, :]),
}

STEP = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 20), st.just(0)),
    st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 20), st.integers(0, 20)),
)


def program(steps):
    """Runs steps on a growing list of matrices: the weights, the batch, and every result."""

    def loss(params, batch):
        values = [batch @ params["a"], params["b"], batch]
        for name, first, second in steps:
            x, y = values[first % len(values)], values[second % len(values)]
            out = UNARY[name](x) if name in UNARY else BINARY[name](x, y)
            values.append(out / (1.0 + 0.1 * jnp.sum(jax.lax.stop_gradient(out) ** 2)))
        return jnp.sum(jnp.sin(values[-1])) + sum(jnp.mean(x) ** 2 for x in values)

    return loss


# A gradient of a gradient has the parts of the others.
PLAIN = tuple(mode for mode in MODES if mode != "reverse_over_reverse")


def check(steps, seed):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), 3)
        params = {n: jax.random.normal(k, (SIZE, SIZE)) for n, k in zip("ab", keys, strict=False)}
        batch = jax.random.normal(keys[2], (SIZE, SIZE))
        # As one layer, the two matrices are swept once in each mode.
        layers = hgeo.find_layers(params, {"both": ["a", "b"]})
        coordinates = hgeo.sample_coordinates(layers, 6, jax.random.key(seed))

        def every(params, batch):
            found = {
                mode: hgeo.sampled_diagonal(
                    program(steps), params, batch, coordinates, mode=mode, chunk_size=3
                )
                for mode in PLAIN
            }
            return {mode: own["both"] for mode, own in found.items()}

        found = quick(every)(params, batch)
        expected = np.asarray(found["forward_over_reverse"])
        scale = 1.0 + np.max(np.abs(expected))
        for entries in found.values():
            np.testing.assert_allclose(entries, expected, atol=1e-9 * scale)


PROGRAMS = hypothesis.given(steps=st.lists(STEP, min_size=1, max_size=6), seed=st.integers(0, 3))


@pytest.mark.slow
@hypothesis.settings(max_examples=6)
@PROGRAMS
def test_the_modes_agree_on_random_programs(steps, seed):
    check(steps, seed)


@pytest.mark.slow
@hypothesis.settings(max_examples=40)
@PROGRAMS
def test_the_modes_agree_on_more_random_programs(steps, seed):
    check(steps, seed)


def test_the_modes_agree_on_every_primitive():
    """All primitives in a few programs, so that each is tested."""
    names = sorted(UNARY) + sorted(BINARY)
    for start in range(0, len(names), 14):
        part = names[start : start + 14]
        check([(name, k % 2, 1 - k % 2) for k, name in enumerate(part)], seed=start)


def test_softmax_with_a_derivative_rule_of_its_own_agrees():
    """As JAX makes it on request: a `custom_jvp` function that no planner but the general takes."""
    with jax.enable_x64(True):
        params, batch = {"w": jnp.cos(jnp.arange(12.0)).reshape(3, 4)}, jnp.sin(jnp.arange(6.0))
        coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 12, jax.random.key(0))

        def loss(params, batch):
            return jnp.sum(jax.nn.softmax(batch.reshape(2, 3) @ params["w"]) ** 3)

        def probes(params, batch):
            probe = lambda mode: hgeo.sampled_diagonal(
                loss, params, batch, coordinates, mode=mode, chunk_size=12
            )["w"]
            return [probe(mode) for mode in ("adjoint_weighted", "forward_over_reverse")]

        jax.config.update("jax_softmax_custom_jvp", True)
        try:
            program = str(jax.make_jaxpr(loss)(params, batch))
            found, expected = quick(probes)(params, batch)
        finally:
            jax.config.update("jax_softmax_custom_jvp", False)
        assert "custom_jvp_call" in program
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


def test_what_is_repeated_along_an_axis_has_its_own_factor_squared():
    def loss(params, batch):
        norm = jnp.sqrt(jnp.sum(params["w"] ** 2, axis=0, keepdims=True))  # (1, 2), over (3, 2)
        return jnp.sum(jnp.sin(batch @ (params["w"] / norm)))

    params = {"w": jnp.cos(jnp.arange(6.0)).reshape(3, 2)}
    coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 6, jax.random.key(0))
    found, expected = (
        hgeo.sampled_diagonal(loss, params, jnp.eye(3), coordinates, mode=mode)["w"]
        for mode in ("adjoint_weighted", "forward_over_reverse")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
