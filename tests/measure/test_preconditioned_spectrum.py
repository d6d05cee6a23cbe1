"""Eigenvalues of what the optimizer sees, against dense matrices; the layer of all params."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hgeo
from hgeo.devices import make_mesh
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.resolve import resolve
from tests.experiments import load_config
from tests.local_data import write_wikitext2


def _loss(params, batch):
    hidden = jnp.tanh(batch @ params["first"]["kernel"])
    return jnp.mean((hidden @ params["last"]["kernel"] - batch[:, :2]) ** 2)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_extreme_eigenvalues_are_those_of_the_dense_matrix(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        draw = lambda key, *shape: jax.random.normal(key, shape, jnp.float64)
        params = {
            "first": {"kernel": draw(keys[0], 4, 3)},
            "last": {"kernel": draw(keys[1], 3, 2)},
        }
        batch = draw(keys[2], 16, 4)
        optimizer = optax.adam(1e-2)
        state = optimizer.init(params)
        for _ in range(3):
            updates, state = optimizer.update(jax.grad(_loss)(params, batch), state)
            params = optax.apply_updates(params, updates)
        monitor = hgeo.Monitor(
            _loss,
            hgeo.find_layers(params),
            num=4,
            statistics=("preconditioned_spectrum",),
            num_matvecs=12,
            num_samples=2,
            optimizer=optimizer,
            preconditioner={"b2": 0.999},
            devices=jax.devices()[:1],
        )
        values = monitor(0, params, batch, optimizer_state=state)
        _, after = optimizer.update(jax.grad(_loss)(params, batch), state)
        divisor = hgeo.preconditioner(after, b2=0.999)
        for name in ("first", "last"):
            of_kernel = lambda kernel, name=name: _loss({**params, name: {"kernel": kernel}}, batch)
            p = divisor[name]["kernel"].ravel()
            hessian = jax.hessian(of_kernel)(params[name]["kernel"]).reshape(p.size, p.size)
            eigenvalues = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(p, p)))
            at = lambda what, name=name: values[f"hgeo/preconditioned_{what}/{name}/kernel"]
            np.testing.assert_allclose(at("largest_eigenvalue"), eigenvalues[-1], rtol=1e-8)
            np.testing.assert_allclose(at("smallest_eigenvalue"), eigenvalues[0], rtol=1e-6)
            np.testing.assert_allclose(at("smoothness"), np.abs(eigenvalues).max(), rtol=1e-8)
            assert at("spectrum_num_nonfinite") == 0


def test_it_needs_the_optimizer():
    layers = hgeo.find_layers({"kernel": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match="'preconditioned_spectrum', which needs optimizer="):
        hgeo.Monitor(_loss, layers, statistics=("preconditioned_spectrum",))


@pytest.mark.slow
def test_layer_0_holds_all_params(tmp_path):
    config = load_config(
        "lm", "smoke", data_dir=str(write_wikitext2(tmp_path)), probe__layers=(0, 2)
    )
    resolved = resolve(config)
    workload = resolved.read_workload()
    variables = workload.init(jax.random.key(0))
    mesh = make_mesh(jax.devices()[:1])
    probe = GeometryProbe(resolved.probe, workload, variables, jax.random.key(1), mesh)
    own = probe._context.coordinates["all"]
    assert own.layer.size == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    found = probe.sampled(variables)["all"]
    mean = lambda v: (lambda w: w.total / w.weight)(workload.loss(v, jax.device_get(probe._batch)))
    gradient = jax.grad(lambda vector: mean(own.layer.replace(variables, vector)))
    weights = own.layer.ravel(variables)
    for entry, index in zip(found, own.indices, strict=True):
        step = jnp.zeros_like(weights).at[index].set(1.0)
        exact = jax.jvp(gradient, (weights,), (step,))[1][index]
        np.testing.assert_allclose(entry, exact, rtol=1e-4, atol=1e-7)
