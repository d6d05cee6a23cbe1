"""IMDB film reviews with a sentiment, as WordPiece tokens.

Reference: Maas et al. Learning Word Vectors for Sentiment Analysis. 2011.
"""

import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hgeo.data.cache import cached_arrays
from hgeo.data.cifar10 import check_labels
from hgeo.data.files import data_root, decode, digest
from hgeo.data.prepared import read_prepared
from hgeo.errors import InputError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPLITS = ("train", "test")
SOURCES = ("tfds", "aclImdb")
CLASSES = ("neg", "pos")
_MEMBER = re.compile(r"(?:^|/)(train|test)/(neg|pos)/(\d+)_(\d+)\.txt$")


class Reviews(NamedTuple):
    """Tokenised reviews: `[CLS]`, the text's first word pieces, `[SEP]`, padding.

    Attributes:
      tokens: int32, (N, max_length).
      mask: bool, (N, max_length), true where there is a token.
      labels: int32, (N,): 0 negative, 1 positive.
      vocabulary: the word pieces by id.
      sha256: digest of texts, labels and vocabulary.
      num_longer: reviews that were cut to `max_length`.
    """

    tokens: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    vocabulary: tuple[str, ...]
    sha256: str
    num_longer: int


def read_imdb(
    data_dir: str,
    split: str,
    *,
    max_length: int,
    source: str = "tfds",
    vocabulary: Sequence[str] | None = None,
    vocabulary_size: int = 8000,
    cache_dir: str | None = None,
) -> Reviews:
    """A split of the reviews, cut and padded to `max_length` tokens.

    Args:
      data_dir: holds `tfds/imdb_reviews`, or `aclImdb/` or `aclImdb*.tar.gz`.
      split: `"train"` or `"test"`.
      max_length: tokens of a review, `[CLS]` and `[SEP]` included.
      source: `"tfds"` or `"aclImdb"` (the official layout, as a folder or archive).
      vocabulary: of pretrained weights (`vocab.txt`); `None` makes one from the training split.
      vocabulary_size: of a vocabulary made from the training split.
      cache_dir: where tokenised arrays are kept, if anywhere.

    Raises:
      InputError: bad settings, data that is absent, damaged, not UTF-8 or with labels out of
        range, a vocabulary without the special pieces, the library `tokenizers` not installed.
    """
    if max_length < 3:
        raise InputError(
            f"data.max_length must be at least 3 ([CLS], a word, [SEP]), not {max_length}"
        )
    texts, labels = read_reviews(data_dir, split, source)
    if vocabulary is None:
        train = texts if split == "train" else read_reviews(data_dir, "train", source)[0]
        vocabulary = cut_vocabulary(train, vocabulary_size)
    vocabulary = tuple(vocabulary)
    sha256 = digest(
        [*(text.encode() for text in texts), labels.tobytes(), "\n".join(vocabulary).encode()]
    )

    def make():
        tokens, mask, num_longer = encode_reviews(texts, vocabulary, max_length)
        return {"tokens": tokens, "mask": mask, "num_longer": np.array(num_longer)}

    settings = {"sha256": sha256, "max_length": max_length}
    arrays = cached_arrays(cache_dir, "imdb", settings, make)
    return Reviews(
        arrays["tokens"],
        arrays["mask"],
        labels,
        vocabulary,
        sha256,
        int(arrays["num_longer"]),
    )


def read_reviews(data_dir: str, split: str, source: str) -> tuple[list[str], np.ndarray]:
    """The texts of a split and their labels, int32.

    The official layout is ordered by class, negative first, then by id; TFDS has a mixed order.

    Raises:
      InputError: as `read_imdb`.
    """
    if split not in SPLITS:
        raise InputError(f"data.split must be one of {SPLITS}, not {split!r}")
    if source not in SOURCES:
        raise InputError(f"data.source must be one of {SOURCES}, not {source!r}")
    if source == "aclImdb":
        return _acl_imdb(data_root(data_dir, "IMDB", "aclImdb/train/pos"), split)
    texts, labels = [], []
    for n, example in enumerate(read_prepared("imdb_reviews", split, data_dir)):
        texts.append(decode(bytes(example["text"]), f"review {n} of imdb_reviews, {split}"))
        labels.append(int(example["label"]))
    labels = np.array(labels, np.int32)
    check_labels(labels, len(texts), len(CLASSES))
    return texts, labels


def encode_reviews(
    texts: Sequence[str], vocabulary: Sequence[str], max_length: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Tokens (N, max_length), their mask, and how many texts were cut; lower-case WordPiece."""
    missing = [piece for piece in SPECIALS[:4] if piece not in vocabulary]
    if missing:
        raise InputError(f"the vocabulary of {len(vocabulary)} word pieces lacks {missing}")
    ids = {piece: n for n, piece in enumerate(vocabulary)}
    tokenizer = _library().BertWordPieceTokenizer(ids, lowercase=True)
    tokens = np.full((len(texts), max_length), ids["[PAD]"], np.int32)
    mask = np.zeros(tokens.shape, bool)
    num_longer = 0
    for start in range(0, len(texts), 1000):
        encoded = tokenizer.encode_batch(list(texts[start : start + 1000]))
        for n, review in enumerate(encoded, start):
            row = review.ids
            if len(row) > max_length:
                num_longer += 1
                row = [*row[: max_length - 1], ids["[SEP]"]]
            tokens[n, : len(row)] = row
            mask[n, : len(row)] = True
    return tokens, mask, num_longer


def cut_vocabulary(texts: Sequence[str], size: int) -> tuple[str, ...]:
    """Word pieces for weights that come without a vocabulary.

    The special pieces, every character as a word's begin and as its continuation (the most
    frequent first), then the most frequent words; equals by code points.

    Raises:
      InputError: `size` leaves no room beside the special pieces.
    """
    if size <= len(SPECIALS):
        raise InputError(
            f"data.vocabulary_size must be more than the {len(SPECIALS)} special pieces, not {size}"
        )
    library = _library()
    normalizer = library.normalizers.BertNormalizer(lowercase=True)
    splitter = library.pre_tokenizers.BertPreTokenizer()
    words, characters = Counter(), Counter()
    for text in texts:
        words.update(w for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    for word, count in words.items():
        for place, character in enumerate(word):
            characters[f"##{character}" if place else character] += count
    ranked = lambda counts: sorted(counts, key=lambda piece: (-counts[piece], piece))
    pieces = dict.fromkeys([*SPECIALS, *ranked(characters), *ranked(words)])
    return tuple(pieces)[:size]


def _acl_imdb(root: Path, split: str) -> tuple[list[str], np.ndarray]:
    folder = root / "aclImdb"
    archives = sorted(root.glob("aclImdb*.tar.gz"))
    if folder.is_dir():
        files = _from_folder(folder, split)
    elif archives:
        files = _from_archive(archives[0], split)
    else:
        raise InputError(
            f"no aclImdb in {root}: put aclImdb_v1.tar.gz of ai.stanford.edu/~amaas/data/sentiment "
            "there, or the folder aclImdb that it holds"
        )
    found = {}
    for name, content in files:
        match = _MEMBER.search(name)
        if match and match[1] == split:
            key = (CLASSES.index(match[2]), int(match[3]), int(match[4]))
            found[key] = decode(content, name)
    labels = np.array([label for label, *_ in sorted(found)], np.int32)
    lacking = [name for n, name in enumerate(CLASSES) if n not in labels]
    if lacking:
        raise InputError(f"{root} has no reviews aclImdb/{split}/{lacking[0]}/ID_RATING.txt")
    return [found[key] for key in sorted(found)], labels


def _from_folder(folder: Path, split: str):
    for path in folder.glob(f"{split}/*/*.txt"):
        yield path.as_posix(), path.read_bytes()


def _from_archive(path: Path, split: str):
    """Reads the files in memory and unpacks nothing to disk, so that names cannot do harm."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                match = _MEMBER.search(member.name)
                if member.isfile() and match and match[1] == split:
                    file = archive.extractfile(member)
                    yield member.name, file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is not a whole tar.gz archive: {error}") from error


def _library():
    try:
        import tokenizers
    except ImportError as error:
        raise InputError("WordPiece needs tokenizers: pip install tokenizers") from error
    return tokenizers
