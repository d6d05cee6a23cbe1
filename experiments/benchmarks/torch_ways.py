"""PyTorch's ways to entries of a layer's Hessian diagonal, each differentiating that layer alone.

A way takes positions in the layer's flat weight (PyTorch's layout) and a chunk size, the number of
coordinates computed together, and gives the entries.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.language_model import Case
from experiments.benchmarks.torch_language_model import TorchLanguageModel, parameter_names

Way = Callable[[list[int], int], np.ndarray]


class TorchSide:
    """The case's model, weights and batch in PyTorch, on as many threads as there are."""

    def __init__(self, case: Case):
        torch.set_num_threads(os.cpu_count() or 1)
        torch.backends.mha.set_fastpath_enabled(False)  # it has no derivative
        shape = {
            name: case.shape[name] for name in ("width", "num_heads", "ffn_width", "num_blocks")
        }
        tensor = lambda x: torch.from_numpy(np.array(x))
        self.tokens = tensor(case.batch["tokens"]).long()
        self.targets = tensor(case.batch["targets"]).long().flatten()
        length = self.tokens.shape[1]
        self.model = TorchLanguageModel(case.vocabulary_size, **shape, length=length)
        self.names = parameter_names(case.shape["num_blocks"])
        self.case = case

        state = {}
        for keys, leaf in jax.tree_util.tree_flatten_with_path(case.params)[0]:
            path = jax.tree_util.keystr(keys, simple=True, separator="/")
            state[self.names[path]] = tensor(leaf.T if path.endswith("kernel") else leaf)
        self.model.load_state_dict(state)

    def positions(self, path: str) -> list[int]:
        """The layer's coordinates as positions in PyTorch's transposed weight."""
        chosen = self.case.coordinates[path]
        rows, columns = chosen.layer.shapes[0]
        places = np.arange(rows * columns).reshape(columns, rows).T.ravel()
        return places[np.asarray(chosen.indices)].tolist()

    def ways(self, path: str) -> dict[str, Way]:
        """All of them for one layer, by name; curvlinops' where it is installed."""
        ways = {
            "double backward": lambda positions, chunk: self._double_backward(
                path, positions, chunk
            ),
            "vmap of jvp over grad": lambda positions, chunk: self._jvp_over_grad(
                path, positions, chunk
            ),
        }
        if importlib.util.find_spec("curvlinops") is not None:
            ways["curvlinops"] = lambda positions, chunk: self._curvlinops(path, positions, chunk)
        return ways

    def _loss(self, logits):
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.targets)

    def _double_backward(self, path, positions, chunk):
        # One graph of the gradient; a backward pass over it for each coordinate or chunk of them.
        weight = self.model.get_parameter(self.names[path])
        (gradient,) = torch.autograd.grad(
            self._loss(self.model(self.tokens)), weight, create_graph=True
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
        return torch.cat(entries).numpy()

    def _jvp_over_grad(self, path, positions, chunk):
        name = self.names[path]
        weight = self.model.get_parameter(name).detach()

        def loss(weight):
            return self._loss(torch.func.functional_call(self.model, {name: weight}, self.tokens))

        def product(unit):
            return torch.func.jvp(torch.func.grad(loss), (weight,), (unit,))[1]

        entries = []
        for part in _parts(positions, chunk):
            units = _units(weight, part)
            rows = torch.func.vmap(product)(units) if chunk > 1 else product(units[0])[None]
            entries.append(rows.reshape(len(part), -1)[range(len(part)), part])
        return torch.cat(entries).detach().numpy()

    def _curvlinops(self, path, positions, chunk):
        import curvlinops  # pyright: ignore[reportMissingImports]

        weight = self.model.get_parameter(self.names[path])
        hessian: Any = curvlinops.HessianLinearOperator(
            torch.nn.Sequential(self.model, torch.nn.Flatten(0, 1)),
            torch.nn.CrossEntropyLoss(),
            [weight],
            [(self.tokens, self.targets)],
            check_deterministic=False,
        )
        entries = []
        for part in _parts(positions, chunk):
            columns = hessian @ _units(weight, part).reshape(len(part), -1).T
            entries.append(columns[part, range(len(part))])
        return torch.cat(entries).detach().numpy()


def _parts(positions, chunk):
    return [positions[k : k + chunk] for k in range(0, len(positions), chunk)]


def _units(weight, part):
    units = torch.zeros(len(part), weight.numel())
    units[range(len(part)), part] = 1.0
    return units.view(len(part), *weight.shape)
