"""Processes that open one work folder, or write one of its files, at the same moment."""

import concurrent.futures
import threading

import pytest
from etils import epath

from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import remove_partial, write_text

TOGETHER, ROUNDS = 4, 100


def _write(folder):
    text = "x" * 4000 + "\n"
    write_text(folder / "config.json", text)
    assert (folder / "config.json").read_text() == text


@pytest.mark.parametrize("act", [WorkFolder, _write])
def test_shares_start_together(tmp_path, act):
    barrier = threading.Barrier(TOGETHER)

    def share(_):
        for _ in range(ROUNDS):
            barrier.wait(20)
            act(epath.Path(tmp_path))

    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(share, range(TOGETHER)))
    assert not list(tmp_path.glob(".*"))


def test_half_written_files_of_killed_processes_are_removed(tmp_path):
    run = epath.Path(tmp_path)
    (run / "arrays").mkdir()
    for folder in (run, run / "arrays"):
        (folder / ".losses.csv.0123.partial").write_text("half")
        (folder / "losses.csv").write_text("whole")
    remove_partial(run)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["losses.csv", "losses.csv"]
