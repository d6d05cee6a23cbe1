"""Training of the PyTorch originals: same weights, batches and optimizer."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.pytorch.cases import device, load, original
from hgeo.data.files import given_root
from hgeo.data.multi30k import PAD
from hgeo.experiment.plan import RunPlan
from hgeo.experiment.shared_resources import SharedResources
from hgeo.models.bert import Bert
from hgeo.models.bert_weights import find_weights, read_settings, torch_names
from hgeo.models.resnet import ResNet
from hgeo.models.seq2seq import Seq2Seq
from hgeo.models.transformer import LanguageModel


class TorchTraining:
    """A workload's original, at the initial weights, and its Adam."""

    def __init__(self, config: Any, resources: SharedResources, plan: RunPlan):
        """Builds both, on the device and at the precision of products that JAX has by itself."""
        self._device = device()
        if self._device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, as JAX has it there
        params = resources.variables["params"]
        self._examples = {
            name: torch.from_numpy(array).to(self._device)
            for name, array in resources.workload.examples.items()
        }
        self._module, self._logits, paths = MODELS[config.workload](config, params)
        load(self._module, paths, params)
        self._module.to(self._device)
        constants = plan.arguments
        self._optimizer = torch.optim.Adam(
            self._module.parameters(),
            lr=plan.rate,
            betas=(constants["b1"], constants["b2"]),
            eps=constants["eps"],
            fused=True,
        )

    def update(self, batches: Iterator[np.ndarray], compiled: bool) -> Callable[[], Any]:
        """One update on the next batch's rows; gives the loss before it."""

        def loss_of(batch):
            logits = self._logits(self._module, batch)
            targets = batch["labels"].long()
            padding = PAD if "source" in batch else -100
            return torch.nn.functional.cross_entropy(
                logits.flatten(0, -2), targets.flatten(), ignore_index=padding
            )

        loss_of = torch.compile(loss_of) if compiled else loss_of

        def call():
            rows = torch.from_numpy(next(batches)).long().to(self._device)
            batch = {name: tensor[rows] for name, tensor in self._examples.items()}
            self._optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            self._optimizer.step()
            return loss.detach()

        return call


def _translation(config: Any, params: Any):
    source, target = (params[f"{side}_embedding"]["embedding"] for side in ("source", "target"))
    model = Seq2Seq(len(source), len(target), pad_id=PAD, **config.model)
    module, paths = original(model)
    forward = lambda module, batch: module(batch["source"].long(), batch["target"].long(), PAD)
    return module, forward, paths


def _language(config: Any, params: Any):
    size = params["embedding"]["embedding"].shape[0]
    module, paths = original(LanguageModel(size, **config.model))
    return module, lambda module, batch: module(batch["inputs"].long()), paths


def _resnet(config: Any, params: Any):
    module, paths = original(ResNet())
    forward = lambda module, batch: module(batch["images"].permute(0, 3, 1, 2))
    return module.train(), forward, paths


def _bert(config: Any, params: Any):
    import transformers  # pyright: ignore[reportMissingImports]

    folder = find_weights(config.model.weights, given_root(config.data_dir))
    settings = transformers.BertConfig.from_pretrained(
        folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    module = transformers.BertForSequenceClassification(settings)
    prefix = lambda name: name if name.startswith("classifier") else f"bert.{name}"
    sizes: dict[str, Any] = read_settings(folder)
    names = torch_names(Bert(num_classes=2, **sizes))
    forward = lambda module, batch: (
        module(input_ids=batch["tokens"].long(), attention_mask=batch["mask"].long()).logits
    )
    return module.train(), forward, {prefix(name): path for name, path in names.items()}


MODELS = {
    "translation": _translation,
    "lm": _language,
    "resnet": _resnet,
    "bert": _bert,
}
