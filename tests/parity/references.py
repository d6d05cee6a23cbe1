"""Three ways to a Hessian diagonal in PyTorch, none of which shares code with hgeo.

Each takes a case, the Flax path of a layer and positions in the flat PyTorch parameter, and gives
the entries of the mean loss's Hessian there, as a NumPy array.
"""

import copy

import backpack
import backpack.extensions
import curvlinops
import numpy as np
import torch

from tests.parity.cases import Case


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
    weight = case.weight(path)
    hessian = curvlinops.HessianLinearOperator(
        case.model,
        torch.nn.CrossEntropyLoss(),
        [weight],
        [(case.inputs, case.targets)],
        check_deterministic=False,
    )
    units = torch.zeros(weight.numel(), len(positions), dtype=weight.dtype)
    units[positions, range(len(positions))] = 1.0
    columns = hessian @ units
    return columns[positions, range(len(positions))].detach().numpy()


def backpack_diagonal(case: Case, path: str, positions: list[int]) -> np.ndarray:
    """BackPACK's DiagHessian, which propagates the exact diagonal through a sequential model."""
    model = backpack.extend(copy.deepcopy(case.model))
    loss = backpack.extend(torch.nn.CrossEntropyLoss())(model(case.inputs), case.targets)
    before = torch.get_default_dtype()
    torch.set_default_dtype(case.inputs.dtype)  # BackPACK's pooling makes arrays of the default
    try:
        with backpack.backpack(backpack.extensions.DiagHessian()):
            loss.backward()
    finally:
        torch.set_default_dtype(before)
    return model.get_parameter(case.names[path]).diag_h.flatten()[positions].numpy()
