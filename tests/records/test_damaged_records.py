"""Truncated and damaged records, and damaged caches of data."""

import warnings

import numpy as np
import pytest

from hgeo.data.cache import cached_arrays
from hgeo.errors import InputError
from hgeo.records.run_records import GeometryRow, LossRow, RunRecords


def filled(folder):
    own = RunRecords(folder)
    for step in range(4):
        own.losses[step] = LossRow("adam", 0, step, step / 7, 5.0 - step / 3)
    for step in (0, 3):
        place = ("adam", 0, step, step / 7, 2.0)
        own.geometry[step] = [GeometryRow(*place, k, f"l{k}", "r_med", k / 3) for k in (1, 2)]
    own.write()
    return own


@pytest.mark.parametrize("cut", range(1, 14))
def test_half_a_line_is_left_out_and_noted(tmp_path, cut):
    filled(tmp_path)
    for name in ("losses", "geometry"):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(path.read_bytes()[:-cut])
    again = RunRecords(tmp_path)
    assert sorted(again.losses) == [0, 1, 2]
    assert sorted(again.geometry) == [0], "a step that lost a row is done again"
    assert len(again.repairs) == 2
    assert all("ended in half a line" in line for line in again.repairs)
    again.write()
    assert RunRecords(tmp_path).repairs == []


def test_a_step_that_lost_whole_lines_is_done_again(tmp_path):
    filled(tmp_path)
    path = tmp_path / "geometry.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    again = RunRecords(tmp_path)
    assert sorted(again.geometry) == [0]
    assert "1 rows of step 3 and 2 of other steps" in again.repairs[0]


def test_an_emptied_file_is_noted(tmp_path):
    filled(tmp_path)
    (tmp_path / "losses.csv").write_bytes(b"")
    assert RunRecords(tmp_path).losses == {}
    assert len(RunRecords(tmp_path).repairs) == 1


@pytest.mark.parametrize(
    ("line", "content"),
    [
        (1, "optimizer,repeat,step,loss"),
        (3, "adam,0,1,0.1"),
        (3, "adam,0,1,0.1,x"),
        (3, "adam,0,1,0.1,2.0,3.0"),
        (3, "adam,0,1.5,0.1,2.0"),
        (3, ""),
        (4, "\0\0\0\0\0\0"),
        (4, '"adam,0,2,0.1,2.0'),
        (5, "adam,0,three,0.1,2.0"),
    ],
)
def test_a_broken_line_is_an_error_that_names_file_and_line(tmp_path, line, content):
    filled(tmp_path)
    path = tmp_path / "losses.csv"
    lines = path.read_text().splitlines()
    lines[line - 1] = content
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"losses\.csv, line {line} is damaged"):
        RunRecords(tmp_path)


def test_no_flipped_bit_of_a_cache_comes_back(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 9, (20, 30))
    make = lambda: {"tokens": tokens, "words": np.array(["a", "größer"])}
    cached_arrays(str(tmp_path), "x", {}, make)
    (path,) = tmp_path.iterdir()
    whole, said = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = cached_arrays(str(tmp_path), "x", {}, make)
        said += any("is damaged" in str(w.message) for w in caught)
        assert list(found) == ["tokens", "words"]
        np.testing.assert_array_equal(found["tokens"], tokens)
        assert found["words"].tolist() == ["a", "größer"]
    assert said > len(whole) / 7 / 2
