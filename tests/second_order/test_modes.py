"""Which mode "auto" takes, why, and which losses have no second derivative."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.second_order.modes import MODES
from tests.probes.dense import entries_of, quick

ADDRESS = re.compile(r"0x[0-9a-f]+")

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "v": jnp.linspace(0.5, 1.0, 4)[:, None]}
BATCH = jnp.linspace(-1.0, 1.0, 15).reshape(5, 3)
COORDINATES = hgeo.sample_coordinates(hgeo.find_layers(PARAMS), 4, jax.random.key(0))


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@jax.custom_vjp
def once(x):
    return jnp.sin(x)


def _once_backward(x, g):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return (jax.pure_callback(lambda x, g: np.asarray(g * np.cos(x)), shape, x, g),)


once.defvjp(lambda x: (jnp.sin(x), x), _once_backward)


@jax.custom_jvp
def steep(x):
    """Its rule is not its body's derivative."""
    return jnp.tanh(x)


@steep.defjvp
def _steep_rule(primals, tangents):
    (x,), (dx,) = primals, tangents
    return jnp.tanh(x), (3.0 - jnp.tanh(x) ** 2) * dx


@jax.custom_jvp
def smooth(x):
    """Its rule calls the function for its value."""
    return jnp.log1p(jnp.exp(x))


@smooth.defjvp
def _smooth_rule(primals, tangents):
    (x,), (dx,) = primals, tangents
    return smooth(x), jax.nn.sigmoid(x) * dx


def doubled(x):
    """Until it is large: a loop whose length depends on the data."""
    return jax.lax.while_loop(lambda c: jnp.sum(c**2) < 50.0, lambda c: c + 0.5 * jnp.sin(c), x)


def called_back(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def loss_with(function):
    return lambda params, batch: jnp.mean(
        jnp.tanh(function(batch @ params["w"]) @ params["v"]) ** 2
    )


def in_scan(function):
    return lambda x: jax.lax.scan(lambda c, _: (function(c), None), x, None, length=2)[0]


@pytest.mark.parametrize(
    ("function", "mode", "why"),
    [
        (jnp.sin, "adjoint_weighted", "every equation on the way is covered"),
        (steep, "forward_over_reverse", "custom_jvp function 'steep'"),
        (smooth, "adjoint_weighted", "covered"),
        (in_scan(jnp.sin), "adjoint_weighted", "covered"),
        (jax.checkpoint(jnp.sin), "adjoint_weighted", "covered"),
        (sine, "forward_over_reverse", "custom_vjp function 'sine'"),
        (in_scan(sine), "forward_over_reverse", "custom_vjp function 'sine'"),
        (doubled, "forward_over_forward", "while loop"),
    ],
)
def test_auto_takes_the_best_mode_that_works_and_says_why(function, mode, why):
    loss = loss_with(function)
    choice = hgeo.choose_mode(loss, PARAMS, BATCH, COORDINATES)
    assert choice.mode == mode
    assert why in choice.reason
    probe = functools.partial(hgeo.sampled_diagonal, loss)
    programs = [
        str(jax.make_jaxpr(functools.partial(probe, mode=taken))(PARAMS, BATCH, COORDINATES))
        for taken in ("auto", mode)
    ]
    assert ADDRESS.sub("", programs[0]) == ADDRESS.sub("", programs[1])
    if function is sine or mode == "adjoint_weighted":
        plain = loss_with(jnp.sin if function is sine else function)
        both = lambda p, b: (probe(p, b, COORDINATES), entries_of(plain, p, b, COORDINATES))
        found, reference = quick(both)(PARAMS, BATCH)
        for name in COORDINATES:
            np.testing.assert_allclose(found[name], reference[name], rtol=2e-5, atol=1e-6)


def test_what_does_not_move_is_no_obstacle():
    loss = lambda params, batch: loss_with(jnp.sin)(params, once(called_back(doubled(batch))))
    assert hgeo.choose_mode(loss, PARAMS, BATCH, COORDINATES).mode == "adjoint_weighted"
    last = {"v": COORDINATES["v"]}
    assert hgeo.choose_mode(loss_with(sine), PARAMS, BATCH, last).mode == "adjoint_weighted"


@pytest.mark.parametrize("mode", [*MODES, "auto"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(once, "'once'"), (called_back, r"pure_callback"), (in_scan(once), "once")],
)
def test_no_second_derivative_is_an_error_that_names_the_function(function, name, mode):
    with pytest.raises(ValueError, match=f"differentiate the loss twice.*{name}"):
        hgeo.sampled_diagonal(loss_with(function), PARAMS, BATCH, COORDINATES, mode=mode)


@pytest.mark.parametrize(
    ("function", "mode"),
    [
        (sine, "adjoint_weighted"),
        (steep, "adjoint_weighted"),
        (sine, "forward_over_forward"),
        (doubled, "adjoint_weighted"),
        (doubled, "forward_over_reverse"),
    ],
)
def test_a_mode_that_was_asked_for_is_never_replaced(function, mode):
    with pytest.raises(ValueError, match=f"mode='{mode}' cannot"):
        hgeo.sampled_diagonal(loss_with(function), PARAMS, BATCH, COORDINATES, mode=mode)


def test_make_probe_states_its_mode():
    probe = hgeo.make_probe(loss_with(sine), COORDINATES, devices=jax.devices()[:1])
    assert probe.mode is None
    probe(PARAMS, BATCH)
    assert probe.mode == "forward_over_reverse"
    assert "'sine'" in probe.reason


@pytest.mark.parametrize("mode", MODES)
def test_an_infinite_second_derivative_where_nothing_moves_adds_nothing(mode):
    params = {"w": jnp.array([[1.0, 2.0]])}
    batch = jnp.array([0.0, 4.0])  # sqrt is infinitely curved at 0, where w does not move it

    def loss(params, batch):
        x = batch * params["w"][0]
        return jnp.sum(jnp.where(batch > 0, jnp.sqrt(jnp.where(batch > 0, x, 1.0)), 0.0))

    coordinates = {"w": hgeo.Coordinates(hgeo.find_layers(params)["w"], jnp.arange(2))}
    probe = functools.partial(hgeo.sampled_diagonal, loss, mode=mode)
    found = quick(probe)(params, batch, coordinates)["w"]
    np.testing.assert_allclose(found, [0.0, -0.25 * 16.0 * 8.0**-1.5], rtol=1e-6)


def test_infinite_curvature_adds_nothing_where_nothing_moves_or_nothing_is_weighed():
    """Where JAX's own second derivatives are NaN, adjoint-weighted mode leaves zeros out."""
    layer = hgeo.find_layers({"w": jnp.ones((1, 2))})["w"]
    every = {"w": hgeo.Coordinates(layer, jnp.arange(2))}
    seen = lambda z: jnp.where(z > 0, jnp.sqrt(z), 0.0)
    for function, w, batch, expected in (
        (jnp.sqrt, [1.0, 4.0], [[0.0], [4.0]], [-0.5, -0.0625]),  # the first row does not move
        (seen, [0.0, 4.0], [[4.0]], [0.0, -0.0625]),  # the first entry is not in the loss
    ):
        loss = lambda params, batch, f=function: jnp.sum(f(batch @ params["w"]))
        params, options = {"w": jnp.array([w])}, {"mode": "adjoint_weighted"}
        found = hgeo.sampled_diagonal(loss, params, jnp.array(batch), every, **options)["w"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_values_do_not_depend_on_the_chunk_and_memory_not_on_the_number():
    loss = loss_with(jnp.sin)
    layers = hgeo.find_layers(PARAMS)
    every = {"w": hgeo.Coordinates(layers["w"], jnp.arange(12))}
    given = [{"chunk_size": size} for size in (1, 5, 12)] + [{"memory_budget": 10**6}]
    probe = functools.partial(hgeo.sampled_diagonal, loss, coordinates=every)
    first, *rest = quick(lambda p, b: [probe(p, b, **options)["w"] for options in given])(
        PARAMS, BATCH
    )
    for found in rest:
        np.testing.assert_allclose(found, first, rtol=1e-5, atol=1e-7)

    def temporaries(mode, num):
        big = {"w": jnp.zeros((64, 64)), "v": jnp.ones((64, 1))}
        chosen = hgeo.sample_coordinates(hgeo.find_layers(big, ["w"]), num, jax.random.key(0))
        probe = quick(
            lambda p, b: hgeo.sampled_diagonal(loss, p, b, chosen, mode=mode, chunk_size=4)
        )
        compiled = probe.lower(big, jnp.ones((128, 64))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    for mode in MODES:
        assert temporaries(mode, 400) < temporaries(mode, 40) + 400 * 64
