"""Curvature in PyTorch, by ways none of which shares code with hgeo.

Each takes a case, the Flax path of a layer and positions in the flat PyTorch parameter, and gives
the diagonal entries there of the mean loss's Hessian, or of another matrix, as a NumPy array.
"""

import copy

import backpack
import backpack.extensions
import curvlinops
import numpy as np
import torch

from tests.integration.parity.cases import Case


def double_backward(case: Case, path: str, positions: list[int]) -> np.ndarray:
    """∂(∂L/∂w_i)/∂w_i, one backward pass over the gradient's graph for each coordinate."""
    weight = case.weight(path)
    loss = torch.nn.functional.cross_entropy(case.model(case.inputs), case.targets)
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    entries = []
    for k in positions:
        (row,) = torch.autograd.grad(gradient.flatten()[k], weight, retain_graph=True)
        entries.append(row.flatten()[k])
    return torch.stack(entries).numpy()


def curvlinops_columns(case: Case, path: str, positions: list[int]) -> np.ndarray:
    """e_iᵀ H e_i from curvlinops' products of the layer's Hessian with unit vectors."""
    return columns(curvlinops.HessianLinearOperator, case, path, positions).diagonal()


def columns(operator, case: Case, path: str, positions: list[int], **options) -> np.ndarray:
    """The rows and columns at some positions of one of curvlinops' matrices of a layer."""
    weight = case.weight(path)
    matrix = operator(
        case.model,
        torch.nn.CrossEntropyLoss(),
        [weight],
        [(case.inputs, case.targets)],
        check_deterministic=False,
        **options,
    )
    units = torch.zeros(weight.numel(), len(positions), dtype=weight.dtype)
    units[positions, range(len(positions))] = 1.0
    return (matrix @ units)[positions].detach().numpy()


def drawn_targets(case: Case, seed: int) -> np.ndarray:
    """The targets that curvlinops' Monte Carlo Fisher draws from a seed."""
    generator = torch.Generator().manual_seed(seed)
    shares = case.model(case.inputs).detach().softmax(1)
    return shares.multinomial(1, replacement=True, generator=generator).flatten().numpy()


def backpack_diagonal(case: Case, path: str, positions: list[int]) -> np.ndarray:
    """BackPACK's DiagHessian, which propagates the exact diagonal through a sequential model."""
    return _by_backpack(backpack.extensions.DiagHessian(), case, path, positions)


def backpack_gauss_newton(case: Case, path: str, positions: list[int]) -> np.ndarray:
    """BackPACK's DiagGGNExact."""
    return _by_backpack(backpack.extensions.DiagGGNExact(), case, path, positions)


def _by_backpack(extension, case: Case, path: str, positions: list[int]) -> np.ndarray:
    model = backpack.extend(copy.deepcopy(case.model))
    loss = backpack.extend(torch.nn.CrossEntropyLoss())(model(case.inputs), case.targets)
    before = torch.get_default_dtype()
    torch.set_default_dtype(case.inputs.dtype)  # BackPACK's pooling makes arrays of the default
    try:
        with backpack.backpack(extension):
            loss.backward()
    finally:
        torch.set_default_dtype(before)
    found = getattr(model.get_parameter(case.names[path]), extension.savefield)
    return found.flatten()[positions].numpy()
