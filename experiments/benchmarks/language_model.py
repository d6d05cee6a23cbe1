"""The language model at initialisation on one batch: what the probes are timed on."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import hgeo
from configs import lm
from hgeo.models.transformer import LanguageModel

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss with its weights, batch and coordinates.

    Attributes:
      shape: arguments of `LanguageModel`, without the vocabulary's size.
      vocabulary_size: number of tokens.
      params: float32 weights.
      batch: `"tokens"` and `"targets"`, integers (B, T).
      coordinates: of every weight matrix, in the model's order.
      loss: `loss(params, batch)`, the mean cross-entropy.
    """

    shape: dict[str, Any]
    vocabulary_size: int
    params: PyTree
    batch: dict[str, jax.Array]
    coordinates: "OrderedDict[str, hgeo.Coordinates]"
    loss: Callable[[PyTree, PyTree], jax.Array]


def make_case(scale: str, batch_size: int, num_coordinates: int, num_blocks: int) -> Case:
    """The model of `configs/lm.py` at a scale, on a batch of random tokens."""
    config: Any = lm.get_config(scale)
    shape = {**config.model, "num_blocks": num_blocks}
    vocabulary_size, length = config.data.vocabulary_size, config.data.sequence_length
    model = LanguageModel(vocabulary_size, **shape)

    def loss(params, batch):
        logits: Any = model.apply({"params": params}, batch["tokens"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
        return jnp.mean(losses)

    init, inputs, outputs, drawn = jax.random.split(jax.random.key(config.seed), 4)
    draw = lambda key: jax.random.randint(key, (batch_size, length), 0, vocabulary_size)
    batch = {"tokens": draw(inputs), "targets": draw(outputs)}
    params = model.init(init, batch["tokens"])["params"]
    layers = hgeo.find_layers(params, model.layer_order())
    coordinates = hgeo.sample_coordinates(layers, num_coordinates, drawn)
    return Case(shape, vocabulary_size, params, batch, coordinates, loss)
