"""The benchmark's models in PyTorch, with the same weights."""

import os
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.cases import PAD, Case
from experiments.benchmarks.pytorch import originals
from experiments.benchmarks.pytorch.names import language_paths, resnet_paths, translation_paths
from hgeo.models.resnet import ResNet
from hgeo.models.seq2seq import Seq2Seq
from hgeo.models.transformer import LanguageModel

PyTree = Any


class OneInput(torch.nn.Module):
    """Source and target in one array -> logits (rows, classes), as curvlinops needs them."""

    def __init__(self, module: torch.nn.Module, source_length: int):
        super().__init__()
        self.module, self.source_length = module, source_length

    def forward(self, tokens):
        """Integers (B, S + T) -> logits (B T, classes); without a source S is 0."""
        source, target = tokens[:, : self.source_length], tokens[:, self.source_length :]
        given = (source, target, PAD) if self.source_length else (target,)
        return self.module(*given).flatten(0, 1)


def device() -> torch.device:
    """The device that JAX computes on: its GPU, else the CPU on as many threads as JAX has."""
    if jax.default_backend() == "gpu":
        return torch.device("cuda")
    torch.set_num_threads(os.cpu_count() or 1)
    return torch.device("cpu")


def original(model: LanguageModel | Seq2Seq | ResNet) -> tuple[Any, dict[str, str]]:
    """The PyTorch module of a Flax one, and our paths by its parameters' names."""
    if isinstance(model, ResNet):
        return originals.ResNet(), resnet_paths()
    shape = model.width, model.num_heads
    if isinstance(model, LanguageModel):
        module = originals.Language(
            model.vocabulary_size, *shape, model.ffn_width, model.num_blocks
        )
        return module, language_paths(model.num_blocks)
    sizes = model.source_size, model.target_size, model.ffn_width
    module = originals.Translation(model.num_encoder_blocks, *shape, *sizes)
    return module, translation_paths(model.num_encoder_blocks)


def load(module: Any, paths: dict[str, str], params: PyTree) -> None:
    """Copies Flax's params into a module."""
    leaves = {
        jax.tree_util.keystr(keys, simple=True, separator="/"): np.array(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            leaf = leaves[paths[name]]
            if paths[name].endswith("kernel"):
                leaf = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T
            parameter.copy_(torch.from_numpy(np.array(leaf)))


class OriginalCase:
    """A case's model, weights and batch in PyTorch.

    Attributes:
      module: `inputs` -> logits (rows, classes).
      names: its parameters' names by our paths.
      inputs: integers, source and target beside each other.
      targets: integers (rows,).
      loss: logits, targets -> the mean over targets that are not padding.
    """

    def __init__(self, case: Case):
        """Builds it, on the device that JAX computes on."""
        where = device()
        torch.backends.mha.set_fastpath_enabled(False)  # it has no derivative
        module, paths = original(case.model)
        load(module, paths, case.params)
        tensor = lambda array: torch.from_numpy(np.array(array)).long().to(where)
        parts = [tensor(case.batch[name]) for name in ("source", "tokens") if name in case.batch]
        self.inputs, self.targets = torch.cat(parts, 1), tensor(case.batch["labels"]).flatten()
        self.module = OneInput(module.to(where), parts[0].shape[1] if len(parts) > 1 else 0)
        self.names = {path: f"module.{name}" for name, path in paths.items()}
        self.loss = torch.nn.CrossEntropyLoss(ignore_index=PAD)
