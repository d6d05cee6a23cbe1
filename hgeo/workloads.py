"""Workloads: a model, its data and its loss behind one interface, built from a config."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hgeo.config import Config
from hgeo.data.text import make_sequences, read_text
from hgeo.errors import InputError
from hgeo.losses import Loss, Weighted
from hgeo.models.layers import check_heads
from hgeo.models.transformer import LanguageModel

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Workload:
    """What the train loop needs to know of a task.

    Attributes:
      init: key -> params.
      loss: `loss(params, batch)`; a batch that has a `dropout_key` is a training one.
      layer_paths: the weight matrices in the paper's order; their numbers count from 1.
      examples: arrays with the training examples along their leading axis.
      dropout: whether training batches need a `dropout_key`.
      data_sha256: digest of the data.
    """

    init: Callable[[jax.Array], PyTree]
    loss: Loss
    layer_paths: list[str]
    examples: dict[str, np.ndarray]
    dropout: bool
    data_sha256: str

    @property
    def num_examples(self) -> int:
        """The number of training examples."""
        return len(next(iter(self.examples.values())))


def make_workload(config: Config) -> Workload:
    """Reads the data of `config` and sets up its model and loss.

    Raises:
      InputError: an unknown workload, or data or model settings that can't be used.
    """
    if config.workload not in WORKLOADS:
        raise InputError(f"workload must be one of {sorted(WORKLOADS)}, not {config.workload!r}")
    return WORKLOADS[config.workload](config)


def _language_model(config: Config) -> Workload:
    data = config.data
    text = read_text(data.source, data.split, config.data_dir)
    sequences = make_sequences(text, data.sequence_length, data.tokenizer, data.vocabulary_size)
    check_heads(config.model.width, config.model.num_heads)
    model = LanguageModel(len(sequences.vocabulary), **config.model)

    def loss(params, batch):
        tokens = batch["tokens"]
        key = batch.get("dropout_key")
        logits: Any = model.apply(
            {"params": params},
            tokens[:, :-1],
            deterministic=key is None,
            rngs={} if key is None else {"dropout": key},
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return Weighted(jnp.sum(losses), jnp.asarray(losses.size, losses.dtype))

    def init(key):
        return model.init(key, jnp.zeros((1, data.sequence_length), jnp.int32))["params"]

    return Workload(
        init=init,
        loss=loss,
        layer_paths=model.layer_order(),
        examples={"tokens": sequences.tokens},
        dropout=config.model.dropout > 0,
        data_sha256=sequences.sha256,
    )


WORKLOADS: dict[str, Callable[[Config], Workload]] = {"lm": _language_model}
