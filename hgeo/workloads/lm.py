"""Language modelling: the next word of a text, or random integers in place of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hgeo.config import Config
from hgeo.data.random_targets import random_targets
from hgeo.data.text import Sequences, make_sequences, read_text
from hgeo.losses import Weighted
from hgeo.models.layers import check_heads
from hgeo.models.transformer import LanguageModel
from hgeo.workloads.workload import (
    Workload,
    apply_model,
    head_parts,
    in_projection_parts,
    without_state,
)


def language_model(config: Config) -> Workload:
    """The workload `lm`: `LanguageModel` on sequences of one length; its loss a mean of tokens."""
    data = config.data
    check_heads(config.model.width, config.model.num_heads)
    text = read_text(data.source, data.split, config.data_dir)
    train = make_sequences(
        text, data.sequence_length, data.tokenizer, vocabulary_size=data.vocabulary_size
    )
    size = len(train.vocabulary)
    model = LanguageModel(size, **config.model)
    layers = model.layer_order()
    held_out, digests = {}, [train.sha256]
    if data.held_out_split:
        text = read_text(data.source, data.held_out_split, config.data_dir)
        other = make_sequences(
            text, data.sequence_length, data.tokenizer, vocabulary=train.vocabulary
        )
        held_out = _arrays(other, data.random_targets_seed, size, first=len(train.tokens))
        digests.append(other.sha256)

    def logits(variables, batch):
        return apply_model(model, variables, batch, batch["inputs"])

    def head(logits, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return Weighted(jnp.sum(losses), jnp.asarray(losses.size, losses.dtype))

    def metrics(variables, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits(variables, batch), batch["labels"]
        )
        return {"loss": Weighted(jnp.sum(losses, axis=1), jnp.sum(jnp.ones_like(losses), axis=1))}

    @jax.jit
    def init(key):
        return model.init(key, jnp.zeros((1, data.sequence_length), jnp.int32))

    return Workload(
        init=init,
        outputs=logits,
        head=head,
        training_loss=without_state(logits, head),
        metrics=metrics,
        layer_paths=layers,
        parts=in_projection_parts(layers, model.width) | head_parts(layers[-1], size),
        examples=_arrays(train, data.random_targets_seed, size),
        held_out=held_out,
        dropout=config.model.dropout > 0,
        sha256=" ".join(digests),
    )


def _arrays(
    sequences: Sequences, random_seed: int | None, size: int, first: int = 0
) -> dict[str, np.ndarray]:
    inputs, labels = sequences.tokens[:, :-1], sequences.tokens[:, 1:]
    if random_seed is not None:
        labels = random_targets(labels, size, random_seed, first=first)
    return {"inputs": inputs, "labels": labels}
