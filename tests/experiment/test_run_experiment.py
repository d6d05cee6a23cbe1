"""One whole experiment at smoke scale: what it leaves behind."""

import csv
import io
import json
import pathlib

import pytest

from hgeo.errors import InputError
from tests.experiments import load_config, records, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run_folder = folder / "runs" / "adam" / "repeat_0"
    run_folder.mkdir(parents=True)
    (run_folder / ".losses.csv.0.partial").write_text("half of a killed process")
    finite, said = run(load_config("quickstart", "smoke"), folder)
    assert finite
    return folder, said


def rows(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_records_have_every_step_and_layer(finished):
    losses, geometry = map(rows, records(finished[0]))
    assert list(losses[0]) == ["optimizer", "repeat", "step", "epoch", "loss"]
    assert [(r["optimizer"], int(r["step"])) for r in losses] == [
        (name, step) for name in ("sgdm", "adam") for step in range(6)
    ]
    assert list(geometry[0])[-4:] == ["layer_number", "layer", "statistic", "value"]
    r_med = [r for r in geometry if r["statistic"] == "r_med"]
    assert [(r["optimizer"], int(r["step"]), int(r["layer_number"])) for r in r_med] == [
        (name, step, layer)
        for name in ("sgdm", "adam")
        for step in (0, 3, 6)
        for layer in range(1, 9)
    ]


def test_nothing_half_written_is_left(finished):
    assert not list(finished[0].rglob("*.partial"))


def test_both_optimizers_start_from_the_same_weights_and_coordinates(finished):
    geometry = rows(records(finished[0])[1])
    at_start = {
        name: [
            (r["layer"], r["statistic"], r["value"])
            for r in geometry
            if r["step"] == "0" and r["optimizer"] == name
        ]
        for name in ("sgdm", "adam")
    }
    assert at_start["sgdm"] == at_start["adam"]


def test_outputs_are_there_and_legible(finished):
    folder, said = finished
    assert json.loads((folder / "config.json").read_text())["config"]["seed"] == 0
    for name in ("losses", "loss_and_r_med", "r_med"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (folder / "figures" / f"{name}.svg").read_bytes()
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == page.count("data:image/svg+xml;base64,") == 3
    assert "://" not in page
    table = said[said.index("R_med of SGD+M and Adam") :]
    assert all(len(line) <= 100 for line in table.splitlines() if "report:" not in line)
    assert "block1/linear2" in table


def test_finished_folder_needs_no_data(finished, monkeypatch):
    folder, said = finished
    monkeypatch.setattr("hgeo.experiment.resolve.make_workload", None)
    before = records(folder)
    _, again = run(load_config("quickstart", "smoke"), folder)
    assert again.splitlines() == said[said.index("R_med of SGD+M") :].splitlines()
    assert records(folder) == before


def test_other_experiment_is_refused_with_the_keys_that_differ(finished):
    folder, _ = finished
    before = {p: p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"adam\.learning_rate: 0\.\d+ there, 0\.5 now") as error:
        run(load_config("quickstart", "smoke", adam__learning_rate=0.5, data_dir="/x"), folder)
    assert "data_dir" not in str(error.value)
    assert before == {p: p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file()}
