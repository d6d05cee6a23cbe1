"""Translations from a trained sequence-to-sequence model: greedy and beam search, and BLEU.

Each step runs the decoder over the whole prefix buffer of fixed length; nothing is cached.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.errors import InputError
from hgeo.models.seq2seq import Seq2Seq

IMPOSSIBLE = -1e9


@functools.partial(jax.jit, static_argnames=("model", "max_length", "bos_id", "eos_id"))
def greedy_decode(params, source_BxS, *, model: Seq2Seq, max_length: int, bos_id=2, eos_id=3):
    """The most likely token at each step, until every sentence has ended.

    Args:
      params: of the model.
      source_BxS: source sentences, integers, padded.
      model: the model.
      max_length: tokens of a translation, the first (`<bos>`) and the last (`<eos>`) included.
      bos_id: the first token of a translation; later tokens are never it, nor padding.
      eos_id: the last token; padding follows.

    Returns:
      Integers (B, max_length).

    Raises:
      InputError: `max_length` below 2.
    """
    return beam_search(
        params,
        source_BxS,
        model=model,
        max_length=max_length,
        beam_size=1,
        length_penalty=0.0,
        bos_id=bos_id,
        eos_id=eos_id,
    )[0][:, 0]


@functools.partial(
    jax.jit,
    static_argnames=("model", "max_length", "beam_size", "length_penalty", "bos_id", "eos_id"),
)
def beam_search(
    params,
    source_BxS,
    *,
    model: Seq2Seq,
    max_length: int,
    beam_size: int = 4,
    length_penalty: float = 0.6,
    bos_id: int = 2,
    eos_id: int = 3,
):
    """The best translations that a beam of `beam_size` prefixes finds.

    A prefix's score is its log-probability; ended prefixes stay in the beam with their scores. At
    the end they are ranked by score / ((5 + length) / 6)^length_penalty, `<bos>` not counted.

    Args:
      params: of the model.
      source_BxS: source sentences, integers, padded.
      model: the model.
      max_length: tokens of a translation, `<bos>` and `<eos>` included.
      beam_size: K, the prefixes that are kept; 1 is greedy search.
      length_penalty: 0 ranks by log-probability alone; larger values prefer longer sentences.
      bos_id: the first token of a translation; later tokens are never it, nor padding.
      eos_id: the last token; padding follows.

    Returns:
      Integers (B, K, max_length) and their ranking scores (B, K), the best first. Where fewer
      than K translations exist, scores of about −1e9 mark the remaining places.

    Raises:
      InputError: `max_length` below 2, `beam_size` below 1 or above the target vocabulary.

    Reference:
      Wu et al. Google's Neural Machine Translation System. 2016, section 7.
    """
    if max_length < 2:
        raise InputError(f"max_length must be at least 2 (<bos> and <eos>), not {max_length}")
    if not 1 <= beam_size <= model.target_size:
        raise InputError(f"beam_size must be 1 to {model.target_size}, not {beam_size}")
    count, pad_id, size = source_BxS.shape[0], model.pad_id, model.target_size
    memory = model.apply({"params": params}, source_BxS, method=model.encode)
    per_beam = lambda x: jnp.repeat(x, beam_size, axis=0)
    memory, source = per_beam(memory), per_beam(source_BxS)
    words = jnp.arange(size)
    never_1x1xV = jnp.where((words == pad_id) | (words == bos_id), IMPOSSIBLE, 0.0)[None, None]
    ended_1x1xV = jnp.where(words == pad_id, 0.0, IMPOSSIBLE)[None, None]

    def unfinished(state):
        step, tokens_BxKxL, _ = state
        last_BxK = tokens_BxKxL[:, :, step]
        return (step < max_length - 1) & ~jnp.all((last_BxK == eos_id) | (last_BxK == pad_id))

    def extend(state):
        step, tokens_BxKxL, scores_BxK = state
        flat = tokens_BxKxL.reshape(-1, max_length)
        logits: Any = model.apply({"params": params}, flat, memory, source, method=model.decode)
        next_BxKxV = jax.nn.log_softmax(logits[:, step]).reshape(count, beam_size, size)
        last_BxKx1 = tokens_BxKxL[:, :, step, None]
        done_BxKx1 = (last_BxKx1 == eos_id) | (last_BxKx1 == pad_id)
        next_BxKxV = jnp.where(done_BxKx1, ended_1x1xV, next_BxKxV + never_1x1xV)
        totals = (scores_BxK[..., None] + next_BxKxV).reshape(count, beam_size * size)
        scores_BxK, chosen_BxK = jax.lax.top_k(totals, beam_size)
        parents, tokens = chosen_BxK // size, chosen_BxK % size
        tokens_BxKxL = jnp.take_along_axis(tokens_BxKxL, parents[..., None], axis=1)
        return step + 1, tokens_BxKxL.at[:, :, step + 1].set(tokens), scores_BxK

    tokens = jnp.full((count, beam_size, max_length), pad_id, jnp.int32).at[:, :, 0].set(bos_id)
    first = jnp.where(jnp.arange(beam_size) == 0, 0.0, IMPOSSIBLE)[None]
    scores = jnp.broadcast_to(first, (count, beam_size))
    _, tokens, scores = jax.lax.while_loop(unfinished, extend, (jnp.int32(0), tokens, scores))
    lengths_BxK = jnp.sum(tokens != pad_id, axis=-1) - 1
    ranked = scores / ((5 + lengths_BxK.astype(scores.dtype)) / 6) ** length_penalty
    order = jnp.argsort(-ranked, axis=-1)
    return (
        jnp.take_along_axis(tokens, order[..., None], axis=1),
        jnp.take_along_axis(ranked, order, axis=1),
    )


def words_of(tokens: Sequence[int], vocabulary: Sequence[str], eos_id: int = 3) -> list[str]:
    """The words of one decoded sentence: what stands after `<bos>` and before `<eos>`."""
    words = []
    for token in list(tokens)[1:]:
        if int(token) == eos_id:
            break
        words.append(vocabulary[int(token)])
    return words


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU from 0 to 100, as sacrebleu's default (13a tokens, exponential smoothing).

    Args:
      translations: one sentence each.
      references: one for each translation.

    Raises:
      InputError: their numbers differ, there are none, or sacrebleu is not installed.

    Reference:
      Post. A Call for Clarity in Reporting BLEU Scores. 2018.
    """
    if len(translations) != len(references) or not translations:
        raise InputError(
            "BLEU needs as many translations as references, and at least one, not "
            f"{len(translations)} and {len(references)}"
        )
    try:
        import sacrebleu
    except ImportError as error:
        raise InputError("BLEU needs sacrebleu: pip install sacrebleu") from error
    return sacrebleu.corpus_bleu(list(translations), [list(references)], force=True).score
