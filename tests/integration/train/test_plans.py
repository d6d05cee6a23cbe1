"""What a config plans, run: repeats, epochs and percentages, probes of checkpoints."""

import os
import shutil
import signal

import pytest

from hgeo.errors import InputError
from hgeo.training.preemption import Preempted
from hgeo.training.run import Run
from tests.experiments import records, rows, run
from tests.interruptions import interrupted
from tests.trajectories import smoke


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(smoke(), folder)
    return folder


def test_repeats_give_a_standard_deviation(tmp_path):
    run(smoke(repeats=2), tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "(" in table.split("block0/linear2")[1].splitlines()[0]


def test_moments_as_epochs_and_percentages(tmp_path):
    config = smoke(steps=8, probe__steps=("50%", 0, "100%"), optimizers=("adam",), compare=())
    run(config, tmp_path)
    assert {r["step"] for r in rows(tmp_path, "geometry")} == {"0", "4", "8"}
    per_epoch = 8 / float(rows(tmp_path, "geometry")[-1]["epoch"])
    moments = (f"{2 / per_epoch} epochs", f"{4 / per_epoch} epochs", 8)
    later = smoke(steps=8, probe__steps=moments, optimizers=("adam",), compare=())
    run(later, tmp_path)
    assert {r["step"] for r in rows(tmp_path, "geometry")} == {"0", "2", "4", "8"}
    with pytest.raises(InputError, match=r"probe\.steps takes steps .*not 'late'"):
        run(smoke(probe__steps=("late",)), tmp_path / "other")
    with pytest.raises(InputError, match=r"probe\.steps must lie in 0 to steps=6; outside"):
        run(smoke(probe__steps=("90 epochs",)), tmp_path / "other")


def test_probing_stops_when_asked_and_the_next_start_continues(finished, tmp_path):
    config = smoke(probe_only="again", probe__num_coordinates=3, probe__steps=(0, 3, 6))
    for name in ("whole", "stopped"):
        shutil.copytree(finished, tmp_path / name)
    run(config, tmp_path / "whole")
    terminate = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with interrupted(Run, "_measure", 2, action=terminate, ends_with=Preempted):
        run(config, tmp_path / "stopped")
    probed = rows(tmp_path / "stopped/probes/again/runs/sgdm/repeat_0", "geometry")
    assert {r["step"] for r in probed} == {"0", "3"}, "the measurement in progress is recorded"
    run(config, tmp_path / "stopped")
    folders = [tmp_path / name / "probes/again" for name in ("whole", "stopped")]
    assert records(folders[0]) == records(folders[1])


def test_checkpoints_are_probed_otherwise_and_apart(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = records(folder)
    changes = {"probe__layers": (2, 5), "probe__num_coordinates": 3, "probe__steps": (3, 5, 6)}
    config = smoke(probe_only="head", **changes)
    _, said = run(config, folder)
    assert "adam, repeat 0: no checkpoint at step 5" in said
    assert records(folder) == before
    probed = rows(folder / "probes/head", "geometry")
    assert {(r["layer_number"], r["step"]) for r in probed} == {
        (layer, step) for layer in "25" for step in "36"
    }
    assert {r["value"] for r in probed if r["statistic"] == "num_entries"} == {"3"}
    run(config, folder)
    assert rows(folder / "probes/head", "geometry") == probed
    with pytest.raises(InputError, match=r"probe\.num_coordinates: 3 there, 4 now"):
        run(smoke(probe_only="head", **changes | {"probe__num_coordinates": 4}), folder)
    with pytest.raises(InputError, match=r"adam\.learning_rate"):
        run(smoke(probe_only="other", adam__learning_rate=0.7), folder)
    with pytest.raises(InputError, match="probe_only must be a name"):
        run(smoke(probe_only="../up"), folder)
