"""Every number rests on the sums of the jaxlib that is installed."""

import itertools
import pathlib
import subprocess
import sys
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement

import hgeo
from hgeo.compat import WRONG_SUMS
from hgeo.models.layers import attend
from tests.probes.dense import quick
from tests.xla_options import STANDARD

PROJECT = pathlib.Path(__file__).parent.parent / "pyproject.toml"


def as_users(function):
    """Jits with the standard pipeline: wrong sums come from fused kernels."""
    return jax.jit(function, compiler_options=STANDARD)


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def softmax_tangent(p, x):
    return p * (x - jnp.sum(p * x, axis=-1, keepdims=True))


def softmax_tangents(p, x):
    return jax.vmap(softmax_tangent, in_axes=(None, 0))(p, x)


def sum_of_squares(rows, matrix):
    return jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)


# 0.10.2 fails the first and the last.
CASES = {
    "one p for many x": (softmax_tangents, drawn(0, 16, 4, 19, 20), drawn(1, 20, 16, 4, 19, 20)),
    "one row for many": (softmax_tangents, drawn(0, 256), drawn(1, 4000, 256)),
    "a p for each x": (softmax_tangent, drawn(0, 20, 16, 4, 19, 20), drawn(1, 20, 16, 4, 19, 20)),
    "norms of products": (sum_of_squares, drawn(0, 40_000, 3), drawn(1, 3, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_large_sums_are_right(case):
    function, *arrays = CASES[case]
    found = as_users(function)(*arrays)
    with jax.enable_x64(True):
        truth = quick(function)(*[array.astype(np.float64) for array in arrays])
    assert truth.dtype == np.float64
    np.testing.assert_allclose(found, truth, atol=1e-5 * np.max(np.abs(truth)))


@pytest.mark.parametrize("mode", ["adjoint_weighted", "forward_over_reverse"])
def test_probes_of_large_attention_are_right(mode):
    mask = jnp.ones((16, 20, 20), bool)
    params = {name: {"kernel": drawn(seed, 128, 128) / 11} for seed, name in enumerate("qkvo")}

    def loss(params, batch):
        q, k, v = (batch @ params[name]["kernel"] for name in "qkv")
        logits = attend(q, k, v, 4, mask) @ params["o"]["kernel"]
        return -jnp.mean(jax.nn.log_softmax(logits)[..., 3])

    drawn_of = hgeo.sample_coordinates(hgeo.find_layers(params), 20, jax.random.key(0))

    def probe(params, batch):
        layers = hgeo.find_layers(params)
        of = {name: hgeo.Coordinates(layers[name], c.indices) for name, c in drawn_of.items()}
        return hgeo.sampled_diagonal(loss, params, batch, of, mode=mode, chunk_size=20)

    batch = drawn(4, 16, 20, 128)
    found = as_users(probe)(params, batch)
    with jax.enable_x64(True):
        params, batch = jax.tree.map(lambda x: x.astype(np.float64), (params, batch))
        truth = quick(probe)(params, batch)
    for name, entries in truth.items():
        assert entries.dtype == np.float64
        np.testing.assert_allclose(found[name], entries, atol=1e-4 * np.max(np.abs(entries)))


@pytest.mark.parametrize("release", WRONG_SUMS)
def test_wrong_releases_are_excluded_and_warned_of(release):
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = map(Requirement, itertools.chain(project["dependencies"], *extras))
    of_jax = [one for one in wanted if one.name == "jax"]
    assert len(of_jax) == 3
    assert not any(one.specifier.contains(release) for one in of_jax)

    # JAX looks at it too.
    code = f"import jax; from jaxlib import version; version.__version__ = {release!r}; import hgeo"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"UserWarning: jaxlib {release} computes wrong sums" in run.stderr
