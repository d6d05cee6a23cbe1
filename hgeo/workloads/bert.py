"""Sentiment of IMDB reviews, by fine-tuning BERT."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.config import Config
from hgeo.data.files import given_root
from hgeo.data.imdb import CLASSES, Reviews, read_imdb
from hgeo.errors import InputError
from hgeo.models.bert import Bert
from hgeo.models.bert_weights import find_weights, read_settings, read_vocabulary, read_weights
from hgeo.models.layers import check_heads
from hgeo.workloads.classification import class_loss, class_metrics
from hgeo.workloads.workload import Workload, apply_model, without_state


def bert(config: Config) -> Workload:
    """The workload `bert`: `Bert` on reviews of one length; its loss is the mean over reviews.

    `model.weights` gives sizes, vocabulary and weights; only the classifier is drawn from the seed.
    """
    data, given = config.data, config.model.to_dict()
    source = given.pop("weights")
    folder, vocabulary = None, None
    if source:
        folder = find_weights(source, given_root(config.data_dir))
        given = _agreed(given, read_settings(folder), source)
        vocabulary = read_vocabulary(folder, given["vocabulary_size"])
    lacking = [key for key, value in given.items() if value is None]
    if lacking:
        raise InputError(
            f"model.weights is {source!r}, so that these must be given: "
            + ", ".join(f"model.{key}" for key in lacking)
        )
    check_heads(given["width"], given["num_heads"])
    if data.max_length > given["max_length"]:
        raise InputError(
            f"data.max_length={data.max_length} doesn't fit the model's position table of "
            f"{given['max_length']} (model.max_length)"
        )
    read = functools.partial(
        read_imdb,
        config.data_dir,
        max_length=data.max_length,
        source=data.source,
        vocabulary=vocabulary,
        vocabulary_size=given["vocabulary_size"],
        cache_dir=config.cache_dir,
    )
    train = read(data.split)
    held_out = read(data.held_out_split) if data.held_out_split else None
    model = Bert(num_classes=len(CLASSES), **given)

    def logits(variables, batch):
        return apply_model(model, variables, batch, batch["tokens"], batch["mask"], None)

    def head(logits, batch):
        return class_loss(logits, batch["labels"])

    def init(key):
        variables = jax.jit(model.init)(key, jnp.zeros((1, data.max_length), jnp.int32))
        if folder is None:
            return variables
        return {"params": read_weights(folder, model, variables["params"])}

    cut = f"{train.num_longer} of {len(train.labels)} training reviews cut to {data.max_length}"
    return Workload(
        init=init,
        outputs=logits,
        head=head,
        training_loss=without_state(logits, head),
        metrics=lambda variables, batch: class_metrics(logits(variables, batch), batch["labels"]),
        layer_paths=model.layer_order(),
        examples=_arrays(train),
        held_out={} if held_out is None else _arrays(held_out),
        dropout=given["dropout"] > 0,
        sha256=" ".join(reviews.sha256 for reviews in (train, held_out) if reviews is not None),
        notes=(f"{cut} tokens",) if train.num_longer else (),
    )


def _agreed(given: dict, found: dict, source: str) -> dict:
    """The model's settings, with those of the weights in place of `None`."""
    differing = [
        f"model.{key} is {given[key]}, of the weights {value}"
        for key, value in found.items()
        if given[key] not in (None, value)
    ]
    if differing:
        raise InputError(
            f"the config doesn't fit model.weights={source!r}: {'; '.join(differing)} "
            "(None takes those of the weights)"
        )
    return given | found


def _arrays(reviews: Reviews) -> dict[str, np.ndarray]:
    return {"tokens": reviews.tokens, "mask": reviews.mask, "labels": reviews.labels}
