"""Weights of a PyTorch module as a Flax model's params, and both sides' derivatives compared."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

import hgeo
from hgeo.losses import value_and_grad

SAMPLED = 2


def to_flax(value):
    """A PyTorch weight as Flax lays it out: (out, in) -> (in, out), OIHW -> HWIO."""
    value = np.asarray(value)
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def is_table(path):
    return path.endswith("embedding")


def params_from(module, paths):
    """Nested params from `module`, whose parameter names `paths` maps to Flax paths.

    Every parameter must have its path, and no path may be without its parameter.
    """
    named = dict(module.named_parameters())
    assert set(named) == set(paths), set(named) ^ set(paths)
    params = {}
    for name, path in paths.items():
        *parents, last = path.split("/")
        place = params
        for part in parents:
            place = place.setdefault(part, {})
        value = named[name].detach().numpy()
        place[last] = jnp.asarray(value if is_table(path) else to_flax(value))
    return params


def check_structure(model, params, *inputs):
    """The model's params have the paths and shapes of the copied params."""
    own = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda leaf: leaf.shape, own)


def torch_order(module):
    """Names of the weight matrices, embeddings left out, in PyTorch's own order."""
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.dim() > 1 and "emb" not in name
    ]


def close(ours, theirs, tolerance, name=""):
    error = np.linalg.norm(np.asarray(ours) - theirs) / np.linalg.norm(theirs)
    assert error < tolerance, f"{name}: relative error {error}"


def check_loss_and_gradients(loss, params, batch, module, torch_value, paths, tolerance=1e-4):
    """The loss and the gradient of every parameter agree, layer by layer."""
    with_aux = lambda p, b: (loss(p, b), None)
    value, grads, _ = jax.jit(lambda p, b: value_and_grad(with_aux, p, b))(params, batch)
    np.testing.assert_allclose(float(value), torch_value.item(), rtol=tolerance)
    parameters = dict(module.named_parameters())
    theirs = torch.autograd.grad(
        torch_value, list(parameters.values()), retain_graph=True, allow_unused=True
    )
    for name, gradient in zip(parameters, theirs, strict=True):
        ours = grads
        for part in paths[name].split("/"):
            ours = ours[part]
        wanted = np.zeros(parameters[name].shape) if gradient is None else gradient.numpy()
        wanted = wanted if is_table(paths[name]) else to_flax(wanted)
        if np.linalg.norm(wanted) < 1e-12:  # a bias before a softmax or a BatchNorm
            assert np.linalg.norm(ours) < 1e-10
            continue
        close(ours, wanted, tolerance, name)


def check_diagonal(loss, params, batch, module, torch_value, paths, order, num=SAMPLED):
    """Hessian diagonal entries at sampled coordinates agree with double backward."""
    layers = hgeo.find_layers(params, order)
    coordinates = hgeo.sample_coordinates(layers, num, jax.random.key(3))
    diagonal = jax.jit(lambda p, b: hgeo.sampled_diagonal(loss, p, b, coordinates))(params, batch)
    names = {path: name for name, path in paths.items()}
    parameters = dict(module.named_parameters())
    for path, ours in diagonal.items():
        parameter = parameters[names[path]]
        (gradient,) = torch.autograd.grad(torch_value, parameter, create_graph=True)
        theirs = []
        for index in np.asarray(coordinates[path].indices):
            entry = to_flax(np.arange(parameter.numel()).reshape(parameter.shape)).ravel()[index]
            (row,) = torch.autograd.grad(gradient.flatten()[entry], parameter, retain_graph=True)
            theirs.append(row.flatten()[entry].item())
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6 * scale, err_msg=path)
