"""What the train loop needs to know of a task."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from hgeo.losses import Loss, Weighted
from hgeo.params.leaf_paths import LeafSlice, LeafSpec
from hgeo.records.layer_numbers import PARTS

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Workload:
    """A task: model, data and loss.

    Variables are Flax's: `{"params": ..., ...}`. Training updates the other collections
    (`batch_stats`) without a gradient.

    Attributes:
      init: key -> variables.
      outputs: `(variables, batch) -> outputs` of the model that is probed; a batch with a
        `dropout_key`, of all or of each example, is for training.
      head: `(outputs, batch) -> loss` of these.
      training_loss: `(variables, batch) -> (loss, the other collections after this batch)`.
      metrics: `(variables, batch) -> {name: Weighted}` with a total and a weight for each example
        of a held-out batch; their sums are divided.
      scores: `variables -> {name: value}`, held-out numbers that are no means over examples.
      layer_paths: the weight matrices in params, in the paper's order; their numbers count from 1.
      parts: by path, the named slices of a matrix that can be probed beside it.
      examples: arrays with the training examples along their leading axis.
      held_out: the same for the held-out examples; empty where there are none.
      dropout: whether training batches need a `dropout_key`.
      sha256: digest of all data.
      notes: warnings about data or model.
    """

    init: Callable[[jax.Array], PyTree]
    outputs: Callable[[PyTree, PyTree], PyTree]
    head: Callable[[PyTree, PyTree], Weighted]
    training_loss: Callable[[PyTree, PyTree], tuple[Any, PyTree]]
    metrics: Callable[[PyTree, PyTree], dict[str, Weighted]]
    layer_paths: list[str]
    examples: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]
    dropout: bool
    sha256: str
    scores: Callable[[PyTree], dict[str, float]] = lambda variables: {}
    notes: tuple[str, ...] = ()
    parts: Mapping[str, Mapping[str, LeafSlice]] = dataclasses.field(default_factory=dict)

    @property
    def loss(self) -> Loss:
        """`loss(variables, batch)`, which is probed."""
        return lambda variables, batch: self.head(self.outputs(variables, batch), batch)

    def with_dropout(self, key: jax.Array) -> "Workload":
        """The workload whose probed loss has dropout, with the masks of one key.

        Pieces of a batch that are probed one after another have the same masks.
        """
        outputs = lambda variables, batch: self.outputs(variables, {**batch, "dropout_key": key})
        return dataclasses.replace(self, outputs=outputs)

    @property
    def layers(self) -> dict[int, tuple[str, LeafSpec]]:
        """Name and place in params of all that can be probed, by number.

        Part k, from 1, of layer n has the number 100 n + k, so that the layers keep the paper's:
        101 is `encoder_0/attention/in_proj[q]`. Beside these, `ALL` can be probed.
        """
        numbered = dict(enumerate(self.layer_paths, start=1))
        found: dict[int, tuple[str, LeafSpec]] = {n: (path, path) for n, path in numbered.items()}
        for n, path in numbered.items():
            for k, (name, part) in enumerate(self.parts.get(path, {}).items(), start=1):
                found[PARTS * n + k] = (f"{path.removesuffix('/kernel')}[{name}]", part)
        return found

    @property
    def num_examples(self) -> int:
        """The number of training examples."""
        return len(next(iter(self.examples.values())))


def without_state(
    outputs: Callable[[PyTree, PyTree], PyTree], head: Callable[[PyTree, PyTree], Weighted]
) -> Callable[[PyTree, PyTree], tuple[Any, PyTree]]:
    """The `training_loss` of a model whose variables are params alone."""
    return lambda variables, batch: (head(outputs(variables, batch), batch), {})


def in_projection_parts(paths: Iterable[str], width: int) -> dict[str, dict[str, LeafSlice]]:
    """Queries, keys and values as the columns that they are of each fused in-projection."""
    return {
        path: {name: LeafSlice(path, k * width, 1, width) for k, name in enumerate("qkv")}
        for path in paths
        if path.endswith("/in_proj/kernel")
    }


def head_parts(path: str, num_classes: int) -> dict[str, dict[str, LeafSlice]]:
    """A head's columns by frequency, where classes are numbered by it: ranks 1-10, 11-100, ..."""
    parts, first = {}, 0
    while first < num_classes:
        last = min(max(10, 10 * first), num_classes)
        parts[f"ranks {first + 1}-{last}"] = LeafSlice(path, first, 1, last - first)
        first = last
    return {path: parts}


def apply_model(model: Any, variables: PyTree, batch: PyTree, *inputs: Any) -> Any:
    """A Flax model's outputs, with dropout where the batch has a `dropout_key`.

    That is one key of all masks, or a key for each example.
    """
    key = batch.get("dropout_key")
    if key is None:
        return model.apply(variables, *inputs, deterministic=True)

    def outputs(key, *inputs):
        return model.apply(variables, *inputs, deterministic=False, rngs={"dropout": key})

    if key.ndim == 0:
        return outputs(key, *inputs)
    alone = jax.tree.map(lambda array: array[:, None], inputs)
    return jax.tree.map(lambda array: array[:, 0], jax.vmap(outputs)(key, *alone))
