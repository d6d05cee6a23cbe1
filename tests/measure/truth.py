"""R_med by a dense float64 Hessian, the reference for monitors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tests.probes.dense import dense_hessian


def wide(tree):
    floating = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64") if floating(leaf) else leaf, tree)


def dense_r_med(loss, params, batch, coordinates):
    """max |H_ii| / median |H_ii| over the coordinates of each layer."""
    found = {}
    with jax.enable_x64(True):
        params, batch = wide(jax.device_get((params, batch)))
        for name, own in coordinates.items():
            layer = dataclasses.replace(own.layer, dtypes=("float64",) * len(own.layer.parts))
            entries = np.diagonal(dense_hessian(loss, params, batch, layer))
            magnitude = np.abs(entries[np.asarray(own.indices)])
            found[name] = magnitude.max() / np.median(magnitude)
    return found


def assert_r_med(values, truth, rtol=1e-3):
    found = {name: values[f"hgeo/r_med/{name}"] for name in truth}
    assert {name for name in values if name.startswith("hgeo/r_med/")} == {
        f"hgeo/r_med/{name}" for name in truth
    }
    for name in truth:
        np.testing.assert_allclose(found[name], truth[name], rtol=rtol, err_msg=name)
