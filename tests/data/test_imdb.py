import io
import tarfile

import numpy as np
import pytest

from hgeo.data.imdb import SPECIALS, cut_vocabulary, read_imdb, read_reviews
from hgeo.errors import InputError

pytest.importorskip("tokenizers")

REVIEWS = {
    "aclImdb/train/pos/0_9.txt": b"A wonderful film!",
    "aclImdb/train/pos/10_7.txt": b"good fun, good film",
    "aclImdb/train/neg/2_1.txt": b"bad, bad film",
    "aclImdb/train/unsup/0_0.txt": b"never read",
    "aclImdb/test/pos/0_10.txt": b"A good one",
    "aclImdb/test/neg/0_2.txt": b"unwatchable \xe2\x82\xac",
}


def as_folder(root, reviews):
    for name, content in reviews.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def as_archive(root, reviews):
    with tarfile.open(root / "aclImdb_v1.tar.gz", "w:gz") as archive:
        for name, content in reviews.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("aclImdb/train/pos/99_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)


@pytest.mark.parametrize("layout", [as_folder, as_archive])
def test_official_layout(tmp_path, layout):
    layout(tmp_path, REVIEWS)
    texts, labels = read_reviews(str(tmp_path), "train", "aclImdb")
    assert texts == ["bad, bad film", "A wonderful film!", "good fun, good film"]
    assert labels.tolist() == [0, 1, 1]


def test_nothing_is_unpacked(tmp_path):
    as_archive(tmp_path, REVIEWS | {"../train/pos/5_9.txt": b"out of the folder"})
    before = sorted(p.name for p in tmp_path.parent.iterdir())
    texts, _ = read_reviews(str(tmp_path), "train", "aclImdb")
    assert "out of the folder" in texts
    assert sorted(p.name for p in tmp_path.parent.iterdir()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]


def test_word_pieces(tmp_path):
    as_folder(tmp_path, REVIEWS)
    vocabulary = (*SPECIALS, "a", "good", "film", "wonder", "##ful", "!")
    reviews = read_imdb(
        str(tmp_path), "train", max_length=5, source="aclImdb", vocabulary=vocabulary
    )
    assert reviews.tokens.tolist() == [[2, 1, 1, 1, 3], [2, 5, 8, 9, 3], [2, 6, 1, 1, 3]]
    assert reviews.num_longer == 3
    longer = read_imdb(
        str(tmp_path), "train", max_length=9, source="aclImdb", vocabulary=vocabulary
    )
    assert longer.tokens[1].tolist() == [2, 5, 8, 9, 7, 10, 3, 0, 0]
    assert longer.mask[1].tolist() == [True] * 7 + [False] * 2
    assert longer.num_longer == 0


def test_cut_vocabulary_reads_everything(tmp_path):
    as_folder(tmp_path, REVIEWS)
    settings = {"max_length": 12, "source": "aclImdb", "cache_dir": str(tmp_path / "cache")}
    reviews = read_imdb(str(tmp_path), "train", **settings)
    assert reviews.vocabulary[:5] == SPECIALS
    assert not (reviews.tokens == 1).any()
    test = read_imdb(str(tmp_path), "test", **settings)
    assert test.vocabulary == reviews.vocabulary
    assert (test.tokens[0] == 1).any()  # the euro sign is not in the training split
    again = read_imdb(str(tmp_path), "test", **settings)
    np.testing.assert_array_equal(again.tokens, test.tokens)
    assert len(cut_vocabulary(["one two"], 7)) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 2}, "not 2"),
        ({"source": "csv"}, "'csv'"),
        ({"vocabulary": ("[PAD]", "a")}, r"lacks \['\[UNK\]', '\[CLS\]', '\[SEP\]'\]"),
        ({"vocabulary_size": 5}, "not 5"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    as_folder(tmp_path, REVIEWS)
    with pytest.raises(InputError, match=message):
        read_imdb(str(tmp_path), "train", **({"max_length": 9, "source": "aclImdb"} | settings))


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="'valid'"):
        read_reviews(str(tmp_path), "valid", "aclImdb")
    with pytest.raises(InputError, match=r"put aclImdb_v1.tar.gz"):
        read_reviews(str(tmp_path), "train", "aclImdb")
    with pytest.raises(InputError, match=r"tfds build imdb_reviews .*--file_format=array_record"):
        read_reviews(str(tmp_path), "train", "tfds")
    as_archive(tmp_path, {"aclImdb/train/pos/0_9.txt": b"alone"})
    with pytest.raises(InputError, match="has no reviews aclImdb/train/neg"):
        read_reviews(str(tmp_path), "train", "aclImdb")
    as_archive(tmp_path, REVIEWS | {"aclImdb/train/neg/3_1.txt": b"\xff"})
    with pytest.raises(InputError, match=r"3_1.txt is not UTF-8"):
        read_reviews(str(tmp_path), "train", "aclImdb")
    path = tmp_path / "aclImdb_v1.tar.gz"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"not a whole tar.gz"):
        read_reviews(str(tmp_path), "train", "aclImdb")


def test_real_reviews_from_both_layouts(data_dir):
    """TFDS and the archive hold the same reviews, in another order."""
    one, labels = read_reviews(data_dir, "test", "tfds")
    two, others = read_reviews(data_dir, "test", "aclImdb")
    assert len(one) == len(two) == 1_000
    assert labels.sum() == others.sum() == 503
    assert sorted(zip(one, labels, strict=True)) == sorted(
        zip((text.strip() for text in two), others, strict=True)
    )
