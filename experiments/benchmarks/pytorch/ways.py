"""PyTorch's ways to entries of a layer's Hessian diagonal, each differentiating that layer alone.

A way takes positions in the layer's flat weight (PyTorch's layout) and a chunk size, the number of
coordinates computed together, and gives the entries.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.cases import Case
from experiments.benchmarks.probes_table import TORCH_WAYS
from experiments.benchmarks.pytorch.cases import OriginalCase

Way = Callable[[list[int], int], np.ndarray]


class TorchSide:
    """The case in PyTorch, its attention in operations that differentiate twice."""

    def __init__(self, case: Case):
        self.case, self.original = case, OriginalCase(case)
        self.model, self.names = self.original.module, self.original.names

    def positions(self, path: str) -> list[int]:
        """The layer's coordinates as positions in PyTorch's transposed weight."""
        chosen = self.case.coordinates[path]
        rows, columns = chosen.layer.shapes[0]
        places = np.arange(rows * columns).reshape(columns, rows).T.ravel()
        return places[np.asarray(chosen.indices)].tolist()

    def ways(self, path: str) -> dict[str, Way]:
        """All of them for one layer, by name; curvlinops' where it is installed."""
        ways = (self._double_backward, self._jvp_over_grad, self._curvlinops)
        found = dict(zip(TORCH_WAYS, ways, strict=True))
        if importlib.util.find_spec("curvlinops") is None:
            del found["curvlinops"]

        def with_derivatives(way):
            def call(positions, chunk):
                with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                    return way(path, positions, chunk)

            return call

        return {name: with_derivatives(way) for name, way in found.items()}

    def _loss(self, logits):
        return self.original.loss(logits, self.original.targets)

    def _double_backward(self, path, positions, chunk):
        # One graph of the gradient; a backward pass over it for each coordinate or chunk of them.
        weight = self.model.get_parameter(self.names[path])
        (gradient,) = torch.autograd.grad(
            self._loss(self.model(self.original.inputs)), weight, create_graph=True
        )
        entries = []
        for part in _parts(positions, chunk):
            if chunk == 1:
                chosen = gradient.view(-1)[part[0]]
                (row,) = torch.autograd.grad(chosen, weight, retain_graph=True)
                entries.append(row.view(-1)[part])
            else:
                units = _units(weight, part)
                (rows,) = torch.autograd.grad(
                    gradient, weight, units, retain_graph=True, is_grads_batched=True
                )
                entries.append(rows.reshape(len(part), -1)[range(len(part)), part])
        return torch.cat(entries).cpu().numpy()

    def _jvp_over_grad(self, path, positions, chunk):
        name = self.names[path]
        weight = self.model.get_parameter(name).detach()

        inputs = self.original.inputs

        def loss(weight):
            return self._loss(torch.func.functional_call(self.model, {name: weight}, inputs))

        def product(unit):
            return torch.func.jvp(torch.func.grad(loss), (weight,), (unit,))[1]

        entries = []
        for part in _parts(positions, chunk):
            units = _units(weight, part)
            rows = torch.func.vmap(product)(units) if chunk > 1 else product(units[0])[None]
            entries.append(rows.reshape(len(part), -1)[range(len(part)), part])
        return torch.cat(entries).detach().cpu().numpy()

    def _curvlinops(self, path, positions, chunk):
        import curvlinops  # pyright: ignore[reportMissingImports]

        weight = self.model.get_parameter(self.names[path])
        hessian: Any = curvlinops.HessianLinearOperator(
            self.model,
            self.original.loss,
            [weight],
            [(self.original.inputs, self.original.targets)],
            check_deterministic=False,
        )
        entries = []
        for part in _parts(positions, chunk):
            columns = hessian @ _units(weight, part).reshape(len(part), -1).T
            entries.append(columns[part, range(len(part))])
        return torch.cat(entries).detach().cpu().numpy()


def _parts(positions, chunk):
    return [positions[k : k + chunk] for k in range(0, len(positions), chunk)]


def _units(weight, part):
    units = torch.zeros(len(part), weight.numel(), device=weight.device)
    units[range(len(part)), part] = 1.0
    return units.view(len(part), *weight.shape)
