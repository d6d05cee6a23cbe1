"""Text for language models: sources, tokens, vocabulary, sequences."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hgeo.data.files import data_root, decode
from hgeo.errors import InputError

UNKNOWN = "<unk>"
WIKITEXT2_FILES = {split: f"wikitext-2/wiki.{split}.tokens" for split in ("train", "valid", "test")}


class Sequences(NamedTuple):
    """Token sequences of a text and where they come from.

    Attributes:
      tokens: int32, (N, length + 1): inputs are `[:, :-1]`, targets `[:, 1:]`.
      vocabulary: the words by id; 0 is `<unk>`.
      sha256: digest of the text.
    """

    tokens: np.ndarray
    vocabulary: tuple[str, ...]
    sha256: str


def read_text(source: str, split: str, data_dir: str) -> str:
    """The text of a source: `"pydoc"` (ships inside Python) or `"wikitext2"` (files in data_dir).

    Raises:
      InputError: an unknown source or split, a file that is absent, empty or not UTF-8.
    """
    if source not in SOURCES:
        raise InputError(f"data.source must be one of {sorted(SOURCES)}, not {source!r}")
    text = SOURCES[source](split, data_dir)
    if not text.strip():
        raise InputError(f"the text of data.source={source!r}, data.split={split!r} is empty")
    return text


def make_sequences(
    text: str,
    length: int,
    tokenizer: str,
    *,
    vocabulary_size: int | None = None,
    vocabulary: Sequence[str] | None = None,
) -> Sequences:
    """Cuts a text into sequences of `length` inputs, each with the next token as its target.

    Neighbouring sequences share one token. An incomplete sequence at the end is dropped.

    Args:
      text: any text.
      length: inputs in a sequence.
      tokenizer: `"words"` (words and single punctuation marks, lower case) or `"basic_english"`
        (torchtext's rules, which the PyTorch tutorial uses).
      vocabulary_size: the most frequent words kept, `<unk>` included; `None` keeps all.
      vocabulary: the vocabulary of another text; `None` makes one of this text.

    Raises:
      InputError: an unknown tokenizer, a vocabulary of fewer than two words, a text that is too
        short.
    """
    if tokenizer not in TOKENIZERS:
        raise InputError(f"data.tokenizer must be one of {sorted(TOKENIZERS)}, not {tokenizer!r}")
    if length < 1:
        raise InputError(f"data.sequence_length must be at least 1, not {length}")
    if vocabulary_size is not None and vocabulary_size < 2:
        raise InputError(f"data.vocabulary_size must be at least 2, not {vocabulary_size}")
    words = TOKENIZERS[tokenizer](text)
    count = (len(words) - 1) // length
    if count < 1:
        raise InputError(
            f"the text has {len(words)} tokens, fewer than one sequence of {length} and its target"
        )
    if vocabulary is None:
        counts = Counter(word for word in words if word != UNKNOWN)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        vocabulary = (UNKNOWN, *ranked[: None if vocabulary_size is None else vocabulary_size - 1])
    vocabulary = tuple(vocabulary)
    ids = {word: n for n, word in enumerate(vocabulary)}
    stream = np.fromiter((ids.get(word, 0) for word in words), np.int32, len(words))
    starts = np.arange(count) * length
    tokens = stream[starts[:, None] + np.arange(length + 1)[None, :]]
    return Sequences(tokens, vocabulary, hashlib.sha256(text.encode()).hexdigest())


def _pydoc(split: str, data_dir: str) -> str:
    """Python's language reference, as `help()` shows it; it differs between Python versions."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _wikitext2(split: str, data_dir: str) -> str:
    if split not in WIKITEXT2_FILES:
        raise InputError(f"data.split must be one of {sorted(WIKITEXT2_FILES)}, not {split!r}")
    path = data_root(data_dir, "Wikitext-2", WIKITEXT2_FILES[split]) / WIKITEXT2_FILES[split]
    if not path.is_file():
        raise InputError(
            f"no file {path}: unpack the word-level WikiText-2 archive (wikitext-2-v1.zip) so that "
            f"{WIKITEXT2_FILES[split]} lies below the folder given as data_dir"
        )
    return decode(path.read_bytes(), str(path))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


_BASIC_ENGLISH = str.maketrans(
    {"'": " ' ", '"': "", ".": " . ", ",": " , ", "(": " ( ", ")": " ) ", "!": " ! ", "?": " ? "}
    | {";": " ", ":": " "}
)


def _basic_english(text: str) -> list[str]:
    return text.lower().replace("<br />", " ").translate(_BASIC_ENGLISH).split()


SOURCES: dict[str, Callable[[str, str], str]] = {"pydoc": _pydoc, "wikitext2": _wikitext2}
TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "basic_english": _basic_english,
    "words": _words,
}
