"""Translation: German to English captions of Multi30k, or random integers as targets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hgeo.config import Config
from hgeo.data.multi30k import PAD, Pairs, make_tokenizer, read_multi30k, read_pair
from hgeo.errors import InputError
from hgeo.losses import Weighted
from hgeo.models.decoding import beam_search, bleu, words_of
from hgeo.models.layers import check_heads
from hgeo.models.seq2seq import Seq2Seq, token_loss
from hgeo.workloads.workload import Workload, apply_model, in_projection_parts, without_state

LANGUAGES = ("de", "en")


def translation(config: Config) -> Workload:
    """The workload `translation`: `Seq2Seq`; its loss is the mean over target tokens, not padding.

    All sentences are padded to `data.max_length`; there are no length buckets. The held-out loss is
    of the pairs within it, as training is by default. BLEU is of all held-out pairs and of a beam
    search with the settings of `evaluation`; an unknown word that is produced, `<unk>`, is three
    tokens there.
    """
    data, evaluation = config.data, config.evaluation
    check_heads(config.model.width, config.model.num_heads)
    if evaluation.beam_size < 1:
        raise InputError(f"evaluation.beam_size must be at least 1, not {evaluation.beam_size}")
    read = functools.partial(
        read_multi30k,
        config.data_dir,
        max_length=data.max_length,
        languages=LANGUAGES,
        tokenizer=data.tokenizer,
        min_frequency=data.min_frequency,
        vocabulary_size=data.vocabulary_size,
        random_seed=data.random_targets_seed,
        cache_dir=config.cache_dir,
    )
    train = read(data.split, longer=data.longer)
    # No held-out pair is dropped, so that BLEU is of the whole split.
    held_out = read(data.held_out_split, longer="cut") if data.held_out_split else None
    model = Seq2Seq(
        len(train.source_vocabulary), len(train.target_vocabulary), pad_id=PAD, **config.model
    )

    def logits(variables, batch):
        return apply_model(model, variables, batch, batch["source"], batch["target"])

    def head(logits, batch):
        return token_loss(logits, batch["labels"], PAD)

    def metrics(variables, batch):
        labels = batch["labels"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(variables, batch), labels)
        weights = (labels != PAD).astype(losses.dtype)
        return {"loss": Weighted(jnp.sum(losses * weights, axis=1), jnp.sum(weights, axis=1))}

    @jax.jit
    def init(key):
        tokens = jnp.zeros((1, data.max_length), jnp.int32)
        return model.init(key, tokens, tokens[:, 1:])

    def scores(variables):
        if held_out is None or not evaluation.bleu or data.random_targets_seed is not None:
            return {}
        return {"bleu": _bleu(config, model, variables, held_out)}

    did = "left out" if data.longer == "drop" else "cut"
    notes = [(train, f"training pairs longer than {data.max_length} tokens were {did}")]
    if held_out is not None:
        left_out = f"held-out pairs longer than {data.max_length} tokens are not in the loss"
        notes.append((held_out, left_out))
    return Workload(
        init=init,
        outputs=logits,
        head=head,
        training_loss=without_state(logits, head),
        metrics=metrics,
        scores=scores,
        layer_paths=model.layer_order(),
        parts=in_projection_parts(model.layer_order(), model.width),
        examples=_arrays(train),
        held_out={} if held_out is None else _without_cut_pairs(held_out),
        dropout=config.model.dropout > 0,
        sha256=" ".join(pairs.sha256 for pairs in (train, held_out) if pairs is not None),
        notes=tuple(f"{pairs.num_longer} {note}" for pairs, note in notes if pairs.num_longer),
    )


def _arrays(pairs: Pairs) -> dict[str, np.ndarray]:
    return {"source": pairs.source, "target": pairs.target[:, :-1], "labels": pairs.labels}


def _without_cut_pairs(pairs: Pairs) -> dict[str, np.ndarray]:
    """The arrays with padding as the labels of cut pairs, whose last `<eos>` is not the text's."""
    arrays = _arrays(pairs)
    return arrays | {"labels": np.where(pairs.is_cut[:, None], np.int32(PAD), arrays["labels"])}


def _bleu(config: Config, model: Seq2Seq, variables, pairs: Pairs) -> float:
    """Corpus BLEU of the held-out split, on tokenised, case-sensitive text."""
    lines = read_pair(config.data_dir, config.data.held_out_split, LANGUAGES)[1]
    tokenize = make_tokenizer(config.data.tokenizer, LANGUAGES[1])
    size, translations = config.evaluation.batch_size, []
    for start in range(0, len(lines), size):
        source = pairs.source[np.arange(start, start + size) % len(lines)]
        tokens, _ = beam_search(
            variables["params"],
            source,
            model=model,
            max_length=config.data.max_length,
            beam_size=config.evaluation.beam_size,
        )
        best = np.asarray(tokens[:, 0])[: len(lines) - start]
        translations += [" ".join(words_of(row, pairs.target_vocabulary)) for row in best]
    return bleu(translations, [" ".join(tokenize(line)) for line in lines])
