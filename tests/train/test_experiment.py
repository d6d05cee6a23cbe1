"""Whole experiments at smoke scale: what they leave behind, and how they go on."""

import csv
import io
import json
import pathlib

import numpy as np
import pytest

from hgeo import train
from hgeo.errors import InputError
from tests.experiments import load_config, records, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
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
    monkeypatch.setattr("hgeo.experiment.make_workload", None)
    before = records(folder)
    _, again = run(load_config("quickstart", "smoke"), folder)
    assert again.splitlines() == said[said.index("R_med of SGD+M") :].splitlines()
    assert records(folder) == before


class _StopError(Exception):
    pass


ONE_LAYER = {"probe__layers": (4,)}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    run(load_config("quickstart", "smoke", **ONE_LAYER), folder)
    return folder


@pytest.mark.parametrize(
    ("owner", "method"), [(train, "_train"), (train.Run, "_measure"), (train.Run, "record")]
)
@pytest.mark.parametrize("call", [2, 4])
def test_interrupted_run_ends_with_the_same_numbers(
    calm, tmp_path, monkeypatch, owner, method, call
):
    original, calls = getattr(owner, method), []

    def stopping(*args):
        calls.append(method)
        if len(calls) == call:
            raise _StopError
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, stopping)
        with pytest.raises(_StopError):
            run(load_config("quickstart", "smoke", **ONE_LAYER), tmp_path)
    run(load_config("quickstart", "smoke", **ONE_LAYER), tmp_path)
    assert records(tmp_path) == records(calm)


def test_probes_added_later_equal_those_planned(calm, tmp_path):
    run(load_config("quickstart", "smoke", probe__steps=(6,), **ONE_LAYER), tmp_path)
    run(load_config("quickstart", "smoke", **ONE_LAYER), tmp_path)
    for ours, theirs in zip(records(tmp_path), records(calm), strict=True):
        for a, b in zip(rows(ours), rows(theirs), strict=True):
            assert a.keys() == b.keys()
            for key in a:
                if key in ("loss", "value"):
                    np.testing.assert_allclose(float(a[key]), float(b[key]), rtol=1e-4)
                else:
                    assert a[key] == b[key]


def test_other_experiment_is_refused_with_the_keys_that_differ(finished):
    folder, _ = finished
    before = {p: p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"adam\.learning_rate: 0\.\d+ there, 0\.5 now") as error:
        run(load_config("quickstart", "smoke", adam__learning_rate=0.5, data_dir="/x"), folder)
    assert "data_dir" not in str(error.value)
    assert before == {p: p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file()}


def test_diverged_run_is_marked_and_the_other_goes_on(tmp_path):
    config = load_config("quickstart", "smoke", sgdm__learning_rate=1e30, **ONE_LAYER)
    finite, said = run(config, tmp_path)
    assert not finite
    assert "SGD+M, repeat 0: diverged at step" in said
    losses, geometry = map(rows, records(tmp_path))
    last = [r for r in losses if r["optimizer"] == "sgdm"][-1]
    assert not np.isfinite(float(last["loss"]))
    assert [r["step"] for r in losses if r["optimizer"] == "adam"] == list("012345")
    assert {r["step"] for r in geometry if r["optimizer"] == "sgdm"} == {"0"}
    assert "diverged" in (tmp_path / "report.html").read_text()
    assert "diverged" in (tmp_path / "table.md").read_text()
    assert run(config, tmp_path)[0] is False


def test_repeats_share_the_start_and_differ_in_data(tmp_path):
    changes = {"optimizers": ("adam",), "compare": (), **ONE_LAYER}
    run(load_config("quickstart", "smoke", **changes), tmp_path)
    alone = rows(records(tmp_path)[0])
    run(load_config("quickstart", "smoke", repeats=2, **changes), tmp_path)
    losses, geometry = map(rows, records(tmp_path))
    assert losses[: len(alone)] == alone, "a repeat added later leaves the first as it was"
    by_repeat = [[r["loss"] for r in losses if r["repeat"] == str(k)] for k in (0, 1)]
    assert by_repeat[0] != by_repeat[1]
    start = [
        [r["value"] for r in geometry if (r["repeat"], r["step"]) == (str(k), "0")] for k in (0, 1)
    ]
    assert start[0] == start[1]
