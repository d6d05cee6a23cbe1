"""Runs whose records were cut short or spoilt."""

import shutil

import pytest

from hgeo.errors import InputError
from tests.damage import checkpoints, contents
from tests.experiments import records, run
from tests.trajectories import least


def config():
    return least(probe__layers=(3, 4), probe__steps=(0, 6))


@pytest.mark.parametrize("name", ["losses", "geometry"])
def test_what_was_lost_is_done_again_and_said(calm, tmp_path, name):
    work = shutil.copytree(calm, tmp_path / "work")
    path = checkpoints(work, "sgdm").parent / f"{name}.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    _, said = run(config(), work)
    assert "ended in half a line" in said
    assert path.read_bytes() == whole
    assert records(work) == records(calm)


def test_a_spoilt_line_stops_the_next_start_and_changes_nothing(calm, tmp_path):
    work = shutil.copytree(calm, tmp_path / "work")
    path = checkpoints(work, "sgdm").parent / "losses.csv"
    path.write_bytes(path.read_bytes().replace(b"sgdm,0,2,", b"sgdm,0,?,"))
    before = contents(work)
    with pytest.raises(InputError, match=r"losses\.csv, line 4 is damaged"):
        run(config(), work)
    assert contents(work) == before
