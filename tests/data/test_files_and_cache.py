import gzip

import numpy as np
import pytest

from hgeo.data.cache import cached_arrays
from hgeo.data.files import data_root, read_lines
from hgeo.data.random_targets import random_targets
from hgeo.errors import InputError


def test_lines_end_at_newlines_alone(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress("ein\u2028Satz\t\nzwei\r\n\n".encode()))
    assert read_lines(tmp_path / "a.gz") == ["ein\u2028Satz\t", "zwei\r", ""]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzip.compress(b"some text\n" * 50, mtime=0)[:-9], "not a whole gzip"),
        ("a.gz", b"plain", "not a whole gzip"),
        ("a.txt", b"gut\n\xff\xfe\n", "not UTF-8"),
        ("a.txt", b"", "is empty"),
        ("a.txt", None, "no file"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_lines(tmp_path / name)


def test_no_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("HGEO_DATA_DIR", raising=False)
    with pytest.raises(InputError, match=r"--config.data_dir=DIR or set HGEO_DATA_DIR.*DIR/a/b"):
        data_root("", "this", "a/b")
    with pytest.raises(InputError, match="must be a folder"):
        data_root(str(tmp_path / "none"), "this", "a/b")
    monkeypatch.setenv("HGEO_DATA_DIR", str(tmp_path))
    assert data_root("", "this", "a/b") == tmp_path


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"tokens": np.arange(1000).reshape(10, 100), "words": np.array(["a", "größer"])}


def test_cache_makes_once_and_by_content(tmp_path):
    make = Maker()
    folder = str(tmp_path / "cache")
    for _ in range(2):
        arrays = cached_arrays(folder, "x", {"sha256": "1", "length": 5}, make)
        np.testing.assert_array_equal(arrays["tokens"], Maker()()["tokens"])
        assert arrays["words"].tolist() == ["a", "größer"]
    assert make.calls == 1
    cached_arrays(folder, "x", {"sha256": "2", "length": 5}, make)
    cached_arrays(None, "x", {"sha256": "2", "length": 5}, make)
    assert make.calls == 3
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "pickle"])
def test_damaged_cache_is_said_and_made_anew(tmp_path, damage):
    make = Maker()
    cached_arrays(str(tmp_path), "x", {}, make)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    if damage == "pickle":
        np.savez(path, tokens=np.array([{"a": 1}], dtype=object))
    else:
        whole = path.read_bytes()
        path.write_bytes({"truncated": whole[:99], "flipped": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="is damaged"):
        arrays = cached_arrays(str(tmp_path), "x", {}, make)
    np.testing.assert_array_equal(arrays["tokens"], Maker()()["tokens"])
    cached_arrays(str(tmp_path), "x", {}, make)
    assert make.calls == 2


def test_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be written"):
        arrays = cached_arrays(str(tmp_path / "file"), "x", {}, Maker())
    assert set(arrays) == {"tokens", "words"}


def test_random_targets_depend_on_seed_and_example_alone():
    targets = np.array([[5, 6, 3, 1], [7, 3, 1, 1], [8, 9, 5, 3]], np.int32)
    drawn = random_targets(targets, 50, 7, lowest=4, pad_id=1)
    assert drawn.dtype == np.int32
    np.testing.assert_array_equal(drawn == 1, targets == 1)
    assert drawn[targets != 1].min() >= 4
    np.testing.assert_array_equal(random_targets(targets[:2], 50, 7, lowest=4, pad_id=1), drawn[:2])
    assert (random_targets(targets, 50, 8, lowest=4, pad_id=1) != drawn).any()
    rest = random_targets(targets[2:], 50, 7, lowest=4, pad_id=1, first=2)
    np.testing.assert_array_equal(rest, drawn[2:])


def test_random_targets_are_uniform():
    drawn = random_targets(np.zeros((500, 20), np.int32), 10, 0)
    counts = np.bincount(drawn.ravel(), minlength=10)
    # χ² with 9 degrees of freedom: 27.9 at one in a thousand.
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9
    with pytest.raises(InputError, match="not 10"):
        random_targets(drawn, 10, 0, lowest=10)
    with pytest.raises(InputError, match="-1"):
        random_targets(drawn, 10, -1)
