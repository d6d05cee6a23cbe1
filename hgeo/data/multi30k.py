"""Multi30k: German and English captions of images, for translation.

Reference: Elliott et al. Multi30K: Multilingual English-German Image Descriptions. 2016.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hgeo.data.cache import cached_arrays
from hgeo.data.files import data_root, digest, read_lines
from hgeo.data.random_targets import random_targets
from hgeo.errors import InputError

SPECIALS = ("<unk>", "<pad>", "<bos>", "<eos>")
UNKNOWN, PAD, BOS, EOS = range(4)
SPLITS = {"train": "train", "val": "val", "test": "test_2016_flickr"}
LONGER = ("drop", "cut", "error")

Tokenizer = Callable[[str], list[str]]


class Pairs(NamedTuple):
    """Sentence pairs as token ids, each beginning with `<bos>`, ending with `<eos>`, then padding.

    Attributes:
      source: int32, (N, S).
      target: int32, (N, T); the decoder's inputs are `[:, :-1]`.
      labels: int32, (N, T − 1): `target[:, 1:]`, or random words in the place of all but padding.
      source_vocabulary: the words by id.
      target_vocabulary: the words by id.
      sha256: digest of the split's two files and of the training files that give the vocabulary.
      num_longer: pairs that were longer than allowed, and so dropped or cut.
      is_cut: bool, (N,): the pairs that were cut.
    """

    source: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    source_vocabulary: tuple[str, ...]
    target_vocabulary: tuple[str, ...]
    sha256: str
    num_longer: int
    is_cut: np.ndarray


def read_multi30k(
    data_dir: str,
    split: str,
    *,
    max_length: int,
    longer: str = "drop",
    languages: tuple[str, str] = ("de", "en"),
    tokenizer: str = "regex",
    min_frequency: int = 1,
    vocabulary_size: int | None = None,
    random_seed: int | None = None,
    cache_dir: str | None = None,
) -> Pairs:
    """A split of Multi30k, tokenised with vocabularies from its training split.

    Args:
      data_dir: holds `multi30k/train.de.gz` and so on, or the same files not gzipped.
      split: `"train"`, `"val"` or `"test"` (2016 flickr).
      max_length: tokens of a sentence, `<bos>` and `<eos>` included; all are padded to it.
      longer: how to treat pairs with a longer sentence: `"drop"` leaves the pair out, `"cut"`
        shortens the sentence and ends it with `<eos>`, `"error"` raises.
      languages: source and target.
      tokenizer: `"regex"` (words and single punctuation marks) or `"spacy"` (the tutorial's;
        needs spaCy, not its models).
      min_frequency: how often a word must occur in training to have an id of its own.
      vocabulary_size: the most frequent words kept, specials included; `None` keeps all.
      random_seed: draws random integers as labels; `None`, the true ones.
      cache_dir: where tokenised arrays are kept, if anywhere.

    Raises:
      InputError: no data folder, a file that is absent or damaged, not UTF-8, or of another line
        count than its translation; bad settings; sentences that are too long with `"error"`.
    """
    _check(split, max_length, longer, tokenizer, min_frequency, vocabulary_size)
    texts = {part: read_pair(data_dir, part, languages) for part in {"train", split}}
    sha256 = digest("\n".join(lines).encode() for part in ("train", split) for lines in texts[part])
    settings = {"sha256": sha256, "split": split, "max_length": max_length, "longer": longer}
    settings |= {"languages": languages, "tokenizer": tokenizer, "min_frequency": min_frequency}
    settings |= {"vocabulary_size": vocabulary_size}

    def make():
        tokenizers = [make_tokenizer(tokenizer, language) for language in languages]
        words = {part: _tokenized(tokenizers, texts[part]) for part in texts}
        vocabularies = [
            build_vocabulary(side, min_frequency, vocabulary_size) for side in words["train"]
        ]
        source, target, is_longer = encode_pairs(words[split], vocabularies, max_length, longer)
        names = ("source_vocabulary", "target_vocabulary")
        arrays = {name: np.array(v) for name, v in zip(names, vocabularies, strict=True)}
        return arrays | {"source": source, "target": target, "is_longer": is_longer}

    arrays = cached_arrays(cache_dir, "multi30k", settings, make)
    vocabulary = tuple(arrays["target_vocabulary"].tolist())
    labels = arrays["target"][:, 1:]
    if random_seed is not None:
        labels = random_targets(
            labels,
            len(vocabulary),
            random_seed,
            lowest=len(SPECIALS),
            pad_id=PAD,
            first=0 if split == "train" else len(texts["train"][0]),
        )
    return Pairs(
        arrays["source"],
        arrays["target"],
        labels,
        tuple(arrays["source_vocabulary"].tolist()),
        vocabulary,
        sha256,
        int(arrays["is_longer"].sum()),
        arrays["is_longer"] if longer == "cut" else np.zeros(len(labels), bool),
    )


def read_pair(
    data_dir: str, split: str, languages: tuple[str, str] = ("de", "en")
) -> tuple[list[str], list[str]]:
    """The lines of a split in both languages; line n of one translates line n of the other.

    Raises:
      InputError: as `read_multi30k`.
    """
    if split not in SPLITS:
        raise InputError(f"data.split must be one of {sorted(SPLITS)}, not {split!r}")
    folder = data_root(data_dir, "Multi30k", "multi30k/train.de.gz") / "multi30k"
    paths = [_find(folder, f"{SPLITS[split]}.{language}") for language in languages]
    source, target = (read_lines(path) for path in paths)
    if len(source) != len(target):
        raise InputError(
            f"{paths[0]} has {len(source)} lines and {paths[1]} has {len(target)}; "
            "each must be the other's translation, line by line"
        )
    return source, target


def make_tokenizer(name: str, language: str) -> Tokenizer:
    """The tokenizer of that name for a language; neither changes the case of letters.

    Raises:
      InputError: spaCy is asked for and is not installed.
    """
    if name == "regex":
        return re.compile(r"\w+|[^\w\s]").findall
    try:
        import spacy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("data.tokenizer 'spacy' needs spaCy: pip install spacy") from error
    split = spacy.blank(language).tokenizer
    return lambda line: [token.text for token in split(line)]


def build_vocabulary(
    sentences: Sequence[Sequence[str]], min_frequency: int, size: int | None
) -> tuple[str, ...]:
    """The specials, then words by falling frequency and, among equals, by code points."""
    counts = Counter(word for sentence in sentences for word in sentence if word not in SPECIALS)
    kept = [word for word in counts if counts[word] >= min_frequency]
    kept.sort(key=lambda word: (-counts[word], word))
    return (*SPECIALS, *(kept if size is None else kept[: size - len(SPECIALS)]))


def encode_pairs(
    words: Sequence[Sequence[Sequence[str]]],
    vocabularies: Sequence[Sequence[str]],
    max_length: int,
    longer: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of both sides, each (N, max_length) int32, and which of all pairs were too long.

    Raises:
      InputError: a pair is too long and `longer` is `"error"`, or none is left.
    """
    lengths = [max(len(a), len(b)) + 2 for a, b in zip(*words, strict=True)]
    is_longer = np.array(lengths) > max_length
    too_long = np.flatnonzero(is_longer).tolist()
    if too_long and longer == "error":
        n = too_long[0]
        raise InputError(
            f"{len(too_long)} pairs are longer than data.max_length={max_length}; the first is "
            f"line {n + 1} with {lengths[n]} tokens, <bos> and <eos> included"
        )
    dropped = set(too_long) if longer == "drop" else set()
    if len(dropped) == len(lengths):
        raise InputError(f"no pair is as short as data.max_length={max_length}")
    sides = []
    for sentences, vocabulary in zip(words, vocabularies, strict=True):
        ids = {word: n for n, word in enumerate(vocabulary)}
        rows = np.full((len(lengths) - len(dropped), max_length), PAD, np.int32)
        kept = (sentence for n, sentence in enumerate(sentences) if n not in dropped)
        for row, sentence in zip(rows, kept, strict=True):
            tokens = [ids.get(word, UNKNOWN) for word in sentence[: max_length - 2]]
            row[: len(tokens) + 2] = [BOS, *tokens, EOS]
        sides.append(rows)
    return sides[0], sides[1], is_longer


def _tokenized(tokenizers: Sequence[Tokenizer], sides: Sequence[list[str]]):
    return [[split(line) for line in lines] for split, lines in zip(tokenizers, sides, strict=True)]


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise InputError(
        f"no file {folder / name}.gz: put the raw files of task 1 of github.com/multi30k/dataset "
        f"into {folder}"
    )


def _check(split, max_length, longer, tokenizer, min_frequency, vocabulary_size) -> None:
    if split not in SPLITS:
        raise InputError(f"data.split must be one of {sorted(SPLITS)}, not {split!r}")
    if max_length < 3:
        raise InputError(
            f"data.max_length must be at least 3 (<bos>, a word, <eos>), not {max_length}"
        )
    if longer not in LONGER:
        raise InputError(f"data.longer must be one of {LONGER}, not {longer!r}")
    if tokenizer not in ("regex", "spacy"):
        raise InputError(f"data.tokenizer must be 'regex' or 'spacy', not {tokenizer!r}")
    if min_frequency < 1:
        raise InputError(f"data.min_frequency must be at least 1, not {min_frequency}")
    if vocabulary_size is not None and vocabulary_size <= len(SPECIALS):
        raise InputError(
            f"data.vocabulary_size must be more than the {len(SPECIALS)} special tokens, "
            f"not {vocabulary_size}"
        )
