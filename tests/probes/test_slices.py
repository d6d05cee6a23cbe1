"""Slices of leaves along any axis, as layers: every probe in every mode against dense Hessians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.params.layers import Layer
from hgeo.probes.hvp import together
from hgeo.second_order.modes import MODES
from tests.probes.dense import joint_hessian, quick

SELECT = {
    "w": "w",
    "w[q]": hgeo.LeafSlice("w", 0, 1, 2),
    "w[k]": hgeo.LeafSlice("w", 2, -1, 2),
    "w[v]": hgeo.LeafSlice("w", 4, 1, 2),
    "w[k, q]": [hgeo.LeafSlice("w", 2, 1, 2), hgeo.LeafSlice("w", 0, 1, 2)],
    "w[1:]": hgeo.LeafSlice("w", 1, 0, 2),
    "middle": hgeo.LeafSlice("stack", 2, 1),
    "last": hgeo.LeafSlice("stack", 1, -1),
}


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


@functools.cache
def case():
    """Attention whose queries, keys and values are columns of one matrix; a stack on axis 1."""
    draw = lambda k, *shape: jax.random.normal(jax.random.key(k), shape, jnp.float64)
    params = {"w": draw(0, 3, 6), "stack": 0.6 * draw(1, 2, 3, 2)}
    batch = {"x": 2.0 * draw(2, 2, 3, 3), "y": draw(3, 2, 3, 2)}

    def loss(params, batch):
        q, k, v = jnp.split(batch["x"] @ params["w"], 3, axis=-1)
        weights = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", q, k))
        x = weights @ v
        for k in range(3):
            x = jnp.tanh(x @ params["stack"][:, k])
        return jnp.mean((x - batch["y"]) ** 2)

    layers = hgeo.find_layers(params, SELECT)
    whole = {name: hgeo.find_layers(params)[name] for name in ("w", "stack")}
    matrix = np.asarray(quick(lambda params: joint_hessian(loss, params, batch, whole))(params))
    numbers = {"w": jnp.arange(18.0).reshape(3, 6), "stack": jnp.arange(18.0, 30).reshape(2, 3, 2)}
    places = {name: np.asarray(own.ravel(numbers), int) for name, own in layers.items()}
    return loss, params, batch, layers, matrix, places


def test_slices_are_taken_and_put_back():
    _, params, _, layers, *_ = case()
    w, stack = (np.asarray(params[name]) for name in ("w", "stack"))
    truth = {
        "w[q]": w[:, :2],
        "w[k]": w[:, 2:4],
        "w[1:]": w[1:],
        "middle": stack[:, 2],
        "last": stack[..., 1],
    }
    for name, part in truth.items():
        np.testing.assert_array_equal(layers[name].ravel(params), part.ravel())
        changed = layers[name].replace(params, jnp.zeros(layers[name].size))
        assert sum(int((changed[key] == 0).sum()) for key in params) == part.size
        np.testing.assert_array_equal(layers[name].ravel(changed), 0.0)
    np.testing.assert_array_equal(
        layers["w[k, q]"].ravel(params), np.concatenate([w[:, 2:4].ravel(), w[:, :2].ravel()])
    )
    (name,) = hgeo.find_layers(params, [hgeo.LeafSlice("stack", 1, -2, 2)])
    assert name == "stack[..., 1:3, :]"
    narrow = {"w": params["w"][:, :5], "stack": params["stack"]}
    with pytest.raises(ValueError, match=r"shape \(3, 2\) at 'w\[:, 4:6\]', but .* \(3, 5\)"):
        layers["w[v]"].ravel(narrow)


def test_diagonals_equal_the_dense_ones_in_every_mode():
    loss, params, batch, layers, matrix, places = case()
    names = ("w", "w[k]", "w[k, q]", "middle")
    along = {name: hgeo.Coordinates(layers[name], jnp.arange(layers[name].size)) for name in names}
    probe = functools.partial(hgeo.sampled_diagonal, loss, chunk_size=4)
    every = quick(lambda params: {mode: probe(params, batch, along, mode=mode) for mode in MODES})
    for mode, found in every(params).items():
        for name in names:
            expected = np.diag(matrix)[places[name]]
            tolerance = 1e-10 * np.abs(expected).max()
            np.testing.assert_allclose(found[name], expected, atol=tolerance, err_msg=mode)


@pytest.mark.parametrize("mode", ["adjoint_weighted", "forward_over_reverse"])
def test_quadratic_forms_equal_the_dense_ones(mode):
    loss, params, batch, layers, matrix, places = case()
    names = ("w[k, q]", "w[1:]", "last")
    along = {
        name: hgeo.Directions(
            layers[name], jax.random.normal(jax.random.key(5), (2, layers[name].size), jnp.float64)
        )
        for name in names
    }
    found = quick(lambda p: hgeo.quadratic_forms(loss, p, batch, along, mode=mode))(params)
    for name in names:
        vectors, block = along[name].vectors, matrix[np.ix_(places[name], places[name])]
        expected = np.einsum("ki,ij,kj->k", vectors, block, vectors)
        np.testing.assert_allclose(found[name], expected, rtol=1e-9)


def test_parts_of_the_whole_are_the_whole():
    loss, params, batch, layers, *_ = case()
    own = {name: layers[name] for name in ("w", "w[q]", "w[k]", "w[v]")}
    found = quick(lambda params: hgeo.full_diagonal(loss, params, batch, own))(params)
    parts = np.concatenate([found[f"w[{p}]"].reshape(3, 2) for p in "qkv"], axis=1)
    np.testing.assert_allclose(parts, found["w"].reshape(3, 6), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_other_probes_equal_the_dense_hessian():
    loss, params, batch, layers, matrix, places = case()
    few = {name: layers[name] for name in ("w[k]", "last")}
    along = {name: hgeo.Coordinates(own, jnp.arange(own.size)) for name, own in few.items()}
    key = jax.random.key(1)

    def probes(params):
        at = (loss, params, batch)
        return {
            "rows": hgeo.row_dominance(*at, along),
            "across": hgeo.row_dominance(*at, along, across=few),
            "estimate": hgeo.stochastic_diagonal(*at, few, key, 64),
            "spectrum": {
                name: hgeo.spectrum(*at, own, key, num_matvecs=own.size)
                for name, own in few.items()
            },
        }

    found = quick(probes)(params)
    for name in few:
        block = matrix[np.ix_(places[name], places[name])]
        diagonal = np.diag(block)
        np.testing.assert_allclose(found["rows"][name], _off(block), rtol=1e-6)
        estimate = found["estimate"][name]
        assert (np.abs(estimate.mean - diagonal) < 6 * estimate.standard_error + 1e-12).all()
        largest = np.abs(np.linalg.eigvalsh(block)).max()
        np.testing.assert_allclose(found["spectrum"][name].smoothness, largest, rtol=1e-6)
    joint = np.concatenate([places[name] for name in few])
    across = np.concatenate(list(found["across"].values()))
    np.testing.assert_allclose(across, _off(matrix[np.ix_(joint, joint)]), rtol=1e-6)


def _off(matrix):
    diagonal = np.diag(matrix)
    return np.linalg.norm(matrix - np.diag(diagonal), axis=1) / np.abs(diagonal)


@pytest.mark.parametrize("shared", [("w", "w[q]"), ("w[1:]", "w[v]"), ("w[k]", "w[k, q]")])
def test_layers_taken_together_must_not_share_weights(shared):
    layers = case()[3]
    with pytest.raises(ValueError, match="but these share"):
        together({name: layers[name] for name in shared})
    assert isinstance(together({name: layers[name] for name in ("w[q]", "w[v]")}), Layer)
