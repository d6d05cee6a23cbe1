"""Saved checkpoints that are probed on their own: whose data, in shares, of diverged runs."""

import json
import shutil

import pytest

from hgeo.errors import InputError
from hgeo.records.rows import NotFiniteRow
from hgeo.records.run_records import RunRecords
from hgeo.training.locks import RunLock
from hgeo.training.progress import Progress
from hgeo.training.run import Run
from tests.experiments import records, run
from tests.interruptions import interrupted
from tests.trajectories import least

RUNS = {"probe__steps": (0, 6), "repeats": 2}
# There is no checkpoint at step 5.
PROBES = {"probe__steps": (0, 5, 6), "repeats": 2, "probe__num_coordinates": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run(least(**RUNS), folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "work")


def test_other_data_than_those_of_the_runs_are_refused(folder):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["data"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"data\.sha256: '0{64}' there, '[0-9a-f]{64}' now"):
        run(least(**PROBES, probe_only="again"), folder)
    assert not list((folder / "probes").rglob("*.*"))


def test_shares_probe_their_own_runs_and_the_last_one_reports(folder):
    run(least(**PROBES, probe_only="whole"), folder)
    shared = folder / "probes" / "shared"
    first, second = (least(**PROBES, probe_only="shared", share=s) for s in ("1/2", "2/2"))

    lock = RunLock(folder / "runs/sgdm/repeat_1")
    with interrupted(Run, "_measure", 2):
        run(first, folder)
    lock.release()
    lock = RunLock(folder / "runs/sgdm/repeat_0")
    _, said = run(second, folder)
    lock.release()
    assert "no report yet; other shares have not finished: sgdm 0\n" in said
    assert not (shared / "report.html").exists()
    _, said = run(first, folder)
    assert "no report yet" not in said
    assert (shared / "report.html").exists()
    assert records(shared) == records(folder / "probes" / "whole")


def test_the_time_left_counts_the_probes_of_all_runs(folder, monkeypatch):
    expected = []
    monkeypatch.setattr(Progress, "expect", lambda _, missing: expected.append(dict(missing)))
    run(least(**PROBES, probe_only="again"), folder)
    assert expected == [{"probe": 4}]  # of two runs at two steps


@pytest.mark.slow
def test_a_share_that_has_not_begun_is_not_finished(folder):
    _, said = run(least(**PROBES, probe_only="shared", share="2/2"), folder)
    assert "no report yet; other shares have not finished: sgdm 0\n" in said


def test_a_run_that_diverged_stays_marked(folder):
    diverged = RunRecords(folder / "runs/sgdm/repeat_1")
    diverged.not_finite[5] = NotFiniteRow("sgdm", 1, 5, 0.0, "gradient", "block0/linear1")
    diverged.write()
    finite, _ = run(least(**PROBES, probe_only="again"), folder)
    assert not finite
    probed = RunRecords(folder / "probes/again/runs/sgdm/repeat_1")
    assert probed.divergence == diverged.divergence
    assert "block0/linear1 is not finite" in (folder / "probes/again/report.html").read_text()
