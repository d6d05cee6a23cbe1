"""The library as a wheel brings it, run outside the repository: `python tests/wheel.py`.

Probes a small network of a plain pytree against the dense Hessian, and ends with an error if
anything differs.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

import hgeo

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def loss(params, batch):
    """A two-layer network's mean cross-entropy."""
    x, labels = batch
    logits = jnp.tanh(x @ params["first"]["kernel"]) @ params["second"]["kernel"]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])


def main():
    """Compares every entry of the Hessian diagonal in float64."""
    installed = pathlib.Path(hgeo.__file__).resolve()
    assert not installed.is_relative_to(REPOSITORY / "hgeo"), f"not the wheel's: {installed}"
    missing = [name for name in hgeo.__all__ if not hasattr(hgeo, name)]
    assert not missing, missing

    jax.config.update("jax_enable_x64", True)
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"first": (5, 7), "second": (7, 3)}
    params = {
        name: {"kernel": jax.random.normal(key, shape)}
        for key, (name, shape) in zip(keys, shapes.items(), strict=False)
    }
    batch = jax.random.normal(keys[2], (16, 5)), jax.random.randint(keys[3], (16,), 0, 3)
    layers = hgeo.find_layers(params)
    coordinates = hgeo.sample_coordinates(layers, num=10, key=jax.random.key(1))
    sampled = hgeo.make_probe(loss, coordinates)(params, batch)
    full = hgeo.full_diagonal(loss, params, batch, layers)
    for name, layer in layers.items():
        of_layer = lambda vector, layer=layer: loss(layer.replace(params, vector), batch)
        dense = jnp.diagonal(jax.hessian(of_layer)(layer.ravel(params)))
        np.testing.assert_allclose(full[name], dense, rtol=1e-10, atol=1e-14)
        indices = coordinates[name].indices
        np.testing.assert_allclose(sampled[name], dense[indices], rtol=1e-10, atol=1e-14)
    r_med = {name: float(value) for name, value in hgeo.r_med(sampled).items()}
    print(f"hgeo of {installed.parent}, jax {jax.__version__}: R_med {r_med}")


if __name__ == "__main__":
    sys.exit(main())
