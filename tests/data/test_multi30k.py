import gzip
import sys

import numpy as np
import pytest

from hgeo.data.multi30k import BOS, EOS, PAD, UNKNOWN, make_tokenizer, read_multi30k
from hgeo.errors import InputError

TRAIN = {"de": ["Ein Hund läuft.", "Ein Mann", "@@"], "en": ["A dog runs.", "A man", "the cat"]}
VAL = {"de": ["Ein Hund, ein Vogel."], "en": ["A dog."]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "multi30k").mkdir()
    for split, sides in {"train": TRAIN, "val": VAL}.items():
        for language, lines in sides.items():
            write(tmp_path, f"{split}.{language}.gz", "\n".join(lines) + "\n")
    return tmp_path


def write(folder, name, text):
    (folder / "multi30k" / name).write_bytes(gzip.compress(text.encode()))


def test_tokens_and_vocabulary(folder):
    pairs = read_multi30k(str(folder), "train", max_length=7)
    specials = ("<unk>", "<pad>", "<bos>", "<eos>")
    assert pairs.source_vocabulary == (*specials, "@", "Ein", ".", "Hund", "Mann", "läuft")
    assert pairs.target_vocabulary == (*specials, "A", ".", "cat", "dog", "man", "runs", "the")
    assert pairs.source.tolist() == [
        [BOS, 5, 7, 9, 6, EOS, PAD],
        [BOS, 5, 8, EOS, PAD, PAD, PAD],
        [BOS, 4, 4, EOS, PAD, PAD, PAD],
    ]
    np.testing.assert_array_equal(pairs.labels, pairs.target[:, 1:])
    assert pairs.num_longer == 0
    val = read_multi30k(str(folder), "val", max_length=8)
    assert val.target_vocabulary == pairs.target_vocabulary
    assert val.source.tolist() == [[BOS, 5, 7, UNKNOWN, UNKNOWN, UNKNOWN, 6, EOS]]
    assert val.sha256 != pairs.sha256


def test_longer_sentences(folder):
    dropped = read_multi30k(str(folder), "train", max_length=4)
    assert dropped.source.shape == (2, 4)
    cut = read_multi30k(str(folder), "train", max_length=4, longer="cut")
    assert cut.source[0].tolist() == [BOS, 5, 7, EOS]
    assert dropped.num_longer == cut.num_longer == 1
    assert cut.is_cut.tolist() == [True, False, False]
    assert dropped.is_cut.tolist() == [False, False]
    with pytest.raises(InputError, match=r"1 pairs are longer.*line 1 with 6 tokens"):
        read_multi30k(str(folder), "train", max_length=4, longer="error")
    with pytest.raises(InputError, match=r"no pair is as short as data.max_length=3"):
        read_multi30k(str(folder), "train", max_length=3)


def test_smaller_vocabularies(folder):
    rare = read_multi30k(str(folder), "train", max_length=7, min_frequency=2)
    assert rare.source_vocabulary[4:] == ("@", "Ein")
    few = read_multi30k(str(folder), "train", max_length=7, vocabulary_size=5)
    assert few.target_vocabulary[4:] == ("A",)


def test_random_labels_and_cache(folder, tmp_path):
    settings = {"max_length": 7, "cache_dir": str(tmp_path / "cache")}
    true = read_multi30k(str(folder), "train", **settings)
    drawn = [read_multi30k(str(folder), "train", random_seed=3, **settings) for _ in range(2)]
    np.testing.assert_array_equal(drawn[0].labels, drawn[1].labels)
    np.testing.assert_array_equal(drawn[0].target, true.target)
    np.testing.assert_array_equal(drawn[0].labels == PAD, true.labels == PAD)
    assert drawn[0].labels[true.labels != PAD].min() >= 4
    assert drawn[0].source_vocabulary == true.source_vocabulary
    assert len(list((tmp_path / "cache").iterdir())) == 1
    write(folder, "train.en.gz", "A dog runs!\nA man\nthe cat\n")
    changed = read_multi30k(str(folder), "train", **settings)
    assert "!" in changed.target_vocabulary


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 2}, "at least 3.*not 2"),
        ({"longer": "wrap"}, "'drop', 'cut', 'error'.*'wrap'"),
        ({"tokenizer": "bpe"}, "'bpe'"),
        ({"min_frequency": 0}, "at least 1, not 0"),
        ({"vocabulary_size": 4}, "more than the 4 special tokens, not 4"),
        ({"random_seed": -1}, "0 or more, not -1"),
    ],
)
def test_bad_settings(folder, settings, message):
    with pytest.raises(InputError, match=message):
        read_multi30k(str(folder), "train", **({"max_length": 7} | settings))


def test_bad_files(folder):
    with pytest.raises(InputError, match="'dev'"):
        read_multi30k(str(folder), "dev", max_length=7)
    with pytest.raises(InputError, match=r"test_2016_flickr.de.gz: put the raw files"):
        read_multi30k(str(folder), "test", max_length=7)
    write(folder, "val.en.gz", "A dog.\nAnother line\n")
    with pytest.raises(InputError, match=r"has 1 lines and .* has 2"):
        read_multi30k(str(folder), "val", max_length=7)
    path = folder / "multi30k" / "train.de.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="not a whole gzip"):
        read_multi30k(str(folder), "train", max_length=7)


def test_spacy_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(InputError, match="pip install spacy"):
        make_tokenizer("spacy", "de")


def test_real_files(data_dir):
    pairs = read_multi30k(data_dir, "train", max_length=48, longer="error")
    assert len(pairs.source) == 29_000
    # Types of this regex, and the four specials; spaCy in the tutorial: 19,214 and 10,837.
    assert len(pairs.source_vocabulary) == 18_483 + 4
    assert len(pairs.target_vocabulary) == 10_825 + 4
    test = read_multi30k(data_dir, "test", max_length=48)
    assert len(test.source) == 1_000
    assert (test.target == UNKNOWN).sum() < 0.03 * (test.target != PAD).sum()
