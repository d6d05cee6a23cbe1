"""Probes of random networks, batches and settings against the dense Hessian, in float64 and 32."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hgeo
from hgeo.second_order.modes import MODES
from tests.probes.dense import joint_hessian, quick, spans

ACTIVATIONS = {"tanh": jnp.tanh, "gelu": jax.nn.gelu, "relu": jax.nn.relu, "linear": lambda x: x}
FEW = settings(max_examples=8)
SLOW = settings(max_examples=30)


@st.composite
def problems(draw):
    """Sizes and settings of one network, its batch and its probe."""
    depth = draw(st.integers(1, 3))
    examples = draw(st.integers(1, 5))
    return {
        "widths": [draw(st.integers(1, 5)) for _ in range(depth + 1)],
        "activation": draw(st.sampled_from(sorted(ACTIVATIONS))),
        "examples": examples,
        "microbatch_size": draw(st.sampled_from([None, 1, examples])),
        "classes": draw(st.booleans()),
        "mode": draw(st.sampled_from([*MODES, "auto"])),
        "chunk_size": draw(st.sampled_from([1, 2, 5, 40, "auto"])),
        "wide": draw(st.booleans()),
        "num": draw(st.integers(1, 30)),
        "seed": draw(st.integers(0, 1000)),
    }


def check(given):
    dtype, rng = jnp.float64 if given["wide"] else jnp.float32, np.random.default_rng(given["seed"])
    widths, size = given["widths"], given["examples"]
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    pairs = enumerate(itertools.pairwise(widths))
    params = {f"l{n}": {"kernel": normal(a, b), "bias": normal(b)} for n, (a, b) in pairs}
    batch = {"x": normal(size, widths[0]), "y": normal(size, widths[-1])}
    batch["label"] = jnp.asarray(rng.integers(0, widths[-1], size))
    batch["mask"] = jnp.asarray(rng.integers(0, 2, size), dtype).at[0].set(1)
    act = ACTIVATIONS[given["activation"]]

    def loss(params, batch):
        x = batch["x"]
        for n in range(len(params)):
            x = x @ params[f"l{n}"]["kernel"] + params[f"l{n}"]["bias"][None]
            x = act(x) if n + 1 < len(params) else x
        if given["classes"]:
            each = jax.nn.logsumexp(x, axis=-1) - jnp.take_along_axis(
                x, batch["label"][:, None], axis=-1
            ).squeeze(-1)
        else:
            each = jnp.sum((x - batch["y"]) ** 4, axis=-1)
        return hgeo.Weighted(jnp.sum(batch["mask"] * each), jnp.sum(batch["mask"]))

    layers = hgeo.find_layers(params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that small layers give all they have
        coordinates = hgeo.sample_coordinates(layers, given["num"], jax.random.key(given["seed"]))
    options = {k: given[k] for k in ("mode", "chunk_size", "microbatch_size")}
    both = lambda p, b: (
        hgeo.sampled_diagonal(loss, p, b, coordinates, **options),
        jnp.diagonal(joint_hessian(loss, p, b, layers)),
    )
    found, dense = quick(both)(params, batch)
    assert list(found) == list(layers) == [f"l{n}/kernel" for n in range(len(params))]
    for name, own in coordinates.items():
        assert len(set(own.indices.tolist())) == min(given["num"], layers[name].size)
        diagonal = np.asarray(dense[spans(layers)[name]])
        expected = diagonal[np.asarray(own.indices)]
        assert found[name].dtype == dtype
        scale = max(float(np.max(np.abs(diagonal))), 1e-30)
        tolerance = 1e-9 if given["wide"] else 3e-4
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance * scale)


@pytest.mark.slow
@FEW
@given(problems())
def test_sampled_diagonals(given):
    with jax.enable_x64(True):
        check(given)


@pytest.mark.slow
@SLOW
@given(problems())
def test_more_sampled_diagonals(given):
    with jax.enable_x64(True):
        check({**given, "seed": given["seed"] + 1})


@settings(max_examples=40)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9),
    st.floats(0, 2, width=32),
)
def test_r_med_is_what_numpy_gives(entries, eps):
    magnitude = np.abs(np.array(entries, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = magnitude.max() / (np.median(magnitude) + eps)
    found = float(hgeo.r_med(jnp.array(entries, jnp.float32), eps))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
