"""Models at initialisation on one batch of random tokens, on which probes are timed."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hgeo
from configs import lm, translation
from hgeo.models.seq2seq import Seq2Seq, token_loss
from hgeo.models.transformer import LanguageModel

PyTree = Any
PAD = 1


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss with its weights, batch and coordinates.

    Attributes:
      name: of the workload.
      about: model and batch, in words.
      model: the Flax module.
      params: float32 weights.
      batch: integers; `"tokens"` and `"labels"` (B, T), for translation `"source"` (B, S) too.
      coordinates: of every weight matrix, in the model's order.
      loss: `loss(params, batch)`, the mean cross-entropy of labels that are not `PAD`, which the
        language model has none of.
    """

    name: str
    about: str
    model: LanguageModel | Seq2Seq
    params: PyTree
    batch: dict[str, jax.Array]
    coordinates: "OrderedDict[str, hgeo.Coordinates]"
    loss: Callable[[PyTree, PyTree], Any]


def language_model(
    scale: str, batch_size: int, num_coordinates: int, *, length: int = 0, **shape: Any
) -> Case:
    """The model of `configs/lm.py` at a scale, with changes."""
    config: Any = lm.get_config(scale)
    size, length = config.data.vocabulary_size, length or config.data.sequence_length
    model = LanguageModel(size, **{**config.model, **shape})

    def loss(params, batch):
        logits: Any = model.apply({"params": params}, batch["tokens"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return jnp.mean(losses)

    random = np.random.default_rng(config.seed)
    draw = lambda: jnp.asarray(random.integers(2, size, (batch_size, length)), jnp.int32)
    batch = {"tokens": draw(), "labels": draw()}
    params = jax.jit(model.init)(jax.random.key(config.seed), batch["tokens"])["params"]
    about = (
        f"language model of width {model.width}, {model.num_blocks} blocks, vocabulary {size}; "
        f"batch {batch_size} x {length}"
    )
    coordinates = _coordinates(params, model, num_coordinates)
    return Case("lm", about, model, params, batch, coordinates, loss)


def translation_model(scale: str, batch_size: int, num_coordinates: int) -> Case:
    """The model of `configs/translation.py` at a scale, on sentences of random lengths."""
    config: Any = translation.get_config(scale)
    size, length = config.data.vocabulary_size, config.data.max_length
    model = Seq2Seq(size, size, pad_id=PAD, **config.model)

    def loss(params, batch):
        logits: Any = model.apply({"params": params}, batch["source"], batch["tokens"])
        return token_loss(logits, batch["labels"], PAD)

    random = np.random.default_rng(config.seed)
    lengths = random.integers(length // 2, length + 1, (batch_size, 1))

    def draw():
        tokens = random.integers(2, size, (batch_size, length))
        return np.where(np.arange(length) < lengths, tokens, PAD).astype(np.int32)

    target = draw()
    batch = {"source": draw(), "tokens": target[:, :-1], "labels": target[:, 1:]}
    batch = {name: jnp.asarray(array) for name, array in batch.items()}
    given = batch["source"], batch["tokens"]
    params = jax.jit(model.init)(jax.random.key(config.seed), *given)["params"]
    about = (
        f"translation model of width {model.width}, {model.num_encoder_blocks} + "
        f"{model.num_decoder_blocks} blocks, vocabularies of {size}; batch {batch_size} x {length}"
    )
    coordinates = _coordinates(params, model, num_coordinates)
    return Case("translation", about, model, params, batch, coordinates, loss)


CASES = {"lm": language_model, "translation": translation_model}


def _coordinates(params: PyTree, model: LanguageModel | Seq2Seq, num: int):
    layers = hgeo.find_layers(params, model.layer_order())
    return hgeo.sample_coordinates(layers, num, jax.random.key(1))
