"""Operations that JAX can't vmap: one coordinate at a time, found before the run."""

import jax
import jax.numpy as jnp
import pytest
from jax.custom_batching import custom_vmap

import hgeo
from hgeo.second_order.evaluate import evaluate_quadratic_forms
from tests.probes.dense import error, quick
from tests.second_order.test_custom_rules import primitive

KEYS = jax.random.split(jax.random.key(0), 3)
PARAMS = {"v": jax.random.normal(KEYS[0], (5, 5)), "w": jax.random.normal(KEYS[1], (3, 5, 4))}
BATCH = jax.random.normal(KEYS[2], (12, 5))
SIZES = jnp.array([4, 3, 5])
LAYERS = hgeo.find_layers(PARAMS)
COORDINATES = hgeo.sample_coordinates(LAYERS, 7, jax.random.key(1))


def experts(params, batch):
    """A mixture of experts, each with its own rows of the batch."""
    hidden = jnp.tanh(batch @ params["v"])
    return jnp.mean(jnp.tanh(jax.lax.ragged_dot(hidden, params["w"], SIZES)) ** 2)


def gathered(params, batch):
    """The same with each row's own weights."""
    own = params["w"][jnp.repeat(jnp.arange(3), SIZES, total_repeat_length=12)]
    hidden = jnp.tanh(batch @ params["v"])
    return jnp.mean(jnp.tanh(jnp.einsum("ni,nij->nj", hidden, own)) ** 2)


@pytest.mark.slow
def test_every_probe_of_a_mixture_of_experts_takes_one_pass_at_a_time():
    key = jax.random.key(2)

    def probes(loss, mode):
        def of(params, batch):
            given = (loss, params, batch)
            last = {"w": LAYERS["w"]}
            options = {"mode": mode, "chunk_size": 3}
            return [
                hgeo.sampled_diagonal(*given, COORDINATES, mode=mode),
                hgeo.sampled_diagonal(*given, COORDINATES, **options, microbatch_size=12),
                hgeo.full_diagonal(*given, last, method="coordinates", **options),
                hgeo.full_diagonal(*given, LAYERS),
                hgeo.row_dominance(*given, COORDINATES),
                hgeo.spectrum(*given, LAYERS["v"], key, num_matvecs=3).largest,
            ]

        return jax.tree.leaves(quick(of)(PARAMS, BATCH))

    expected = probes(gathered, "forward_over_reverse")
    for mode in ("auto", "forward_over_reverse"):
        for own, other in zip(probes(experts, mode), expected, strict=True):
            assert error(own, other) < 1e-4


def test_the_choice_says_so_before_the_run():
    choice = hgeo.choose_mode(experts, PARAMS, BATCH, COORDINATES)
    assert (choice.mode, choice.vmapped) == ("adjoint_weighted", False)
    assert "can't be vmapped there is the operation 'ragged_dot_general'" in choice.reason
    assert "a separate pass" in choice.reason
    assert hgeo.choose_mode(gathered, PARAMS, BATCH, COORDINATES).vmapped
    probe = hgeo.make_probe(experts, COORDINATES, devices=jax.devices()[:1])
    probe.lower(PARAMS, BATCH)
    assert probe.reason == choice.reason
    with pytest.raises(ValueError, match="memory_budget is 5"):
        hgeo.sampled_diagonal(experts, PARAMS, BATCH, COORDINATES, memory_budget=5)
    # JAX has no gradient of its gradient.
    with pytest.raises(ValueError, match=r"'reverse_over_reverse' cannot.*ragged_dot_general"):
        hgeo.choose_mode(experts, PARAMS, BATCH, COORDINATES, mode="reverse_over_reverse")
    with pytest.raises(ValueError, match=r"'xdiag' vmaps.*ragged_dot_general.*'hutchinson'"):
        hgeo.stochastic_diagonal(
            experts, PARAMS, BATCH, LAYERS, jax.random.key(0), 2, method="xdiag"
        )


def test_the_condition_number_of_experts():
    found, expected = (
        hgeo.condition_number(loss, PARAMS, BATCH, LAYERS["v"]) for loss in (experts, gathered)
    )
    assert found.smoothness == pytest.approx(expected.smoothness, rel=1e-10)


def test_chunks_of_one_are_never_vmapped(monkeypatch):
    def probe(chunk):
        of = lambda params, batch: (
            evaluate_quadratic_forms(  # one loop for all layers
                gathered, params, batch, COORDINATES, chunk_size=chunk, share_segments=True
            )[0],
            hgeo.row_dominance(gathered, params, batch, COORDINATES, chunk_size=chunk),
        )
        return quick(of).lower(PARAMS, BATCH)

    def refuse(*arguments, **options):
        raise AssertionError("vmapped")

    expected = probe(7).compile()(PARAMS, BATCH)
    monkeypatch.setattr(jax, "vmap", refuse)
    with pytest.raises(AssertionError, match="vmapped"):
        probe(6)
    found = probe(1).compile()(PARAMS, BATCH)
    for own, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert error(own, other) < 1e-4


@custom_vmap
def refusing(x):
    return x


@refusing.def_vmap
def _refuse(size, batched, x):
    raise NotImplementedError("one at a time")


@jax.custom_jvp
def wave(x):
    return refusing(jnp.sin(x))


@wave.defjvp
def _wave_rule(primals, tangents):
    (x,), (dx,) = primals, tangents
    return wave(x), dx * jnp.cos(x)


@jax.custom_vjp
def wave_backwards(x):
    return jnp.sin(x)


# The host's function is called with what moves: the adjoint's own tangent.
def _of_host(g):
    return jax.pure_callback(lambda g: g, jax.ShapeDtypeStruct(g.shape, g.dtype), g)


@jax.custom_jvp
def of_host(g):
    return _of_host(g)


@of_host.defjvp
def _of_host_rule(primals, tangents):
    return of_host(*primals), of_host(*tangents)


wave_backwards.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (of_host(g * jnp.cos(x)),))


@pytest.mark.parametrize(
    ("function", "mode", "vmapped"),
    [
        (primitive("one_by_one", jnp.sin, jnp.cos, batched=False), "adjoint_weighted", True),
        (wave, "adjoint_weighted", True),  # only its value, which no coordinate moves
        (wave_backwards, "forward_over_reverse", False),
    ],
)
def test_further_operations_without_a_batching_rule(function, mode, vmapped):
    of = lambda f: lambda params, batch: jnp.mean(jnp.exp(f(batch @ params["v"])))
    chosen = {"v": COORDINATES["v"]}
    choice = hgeo.choose_mode(of(function), PARAMS, BATCH, chosen)
    assert (choice.mode, choice.vmapped) == (mode, vmapped)
    found = hgeo.sampled_diagonal(of(function), PARAMS, BATCH, chosen, chunk_size=7)["v"]
    assert error(found, hgeo.sampled_diagonal(of(jnp.sin), PARAMS, BATCH, chosen)["v"]) < 1e-5
