"""Runs that are trained together equal those trained one after another."""

import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from hgeo.devices import make_mesh
from hgeo.errors import InputError
from hgeo.training import loop, updates
from hgeo.training.preemption import Preemption
from hgeo.tune import tune
from tests.experiments import load_config, records, rows, run
from tests.interruptions import StopError, interrupted

# Losses of one trajectory, in one program or in two: float32 sums in another order, six steps.
TOLERANCE = 2e-4


def smoke(name="quickstart", **changes):
    layers = {"probe__layers": (4,), "model__num_blocks": 1} if name == "quickstart" else {}
    return load_config(name, "smoke", **layers, **changes)


def assert_close(folder, other, rtol=TOLERANCE):
    for name, column in (("losses", "loss"), ("geometry", "value")):
        pairs = list(zip(rows(folder, name), rows(other, name), strict=True))
        assert pairs
        for a, b in pairs:
            x, y = float(a.pop(column)), float(b.pop(column))
            a.pop("loss", None), b.pop("loss", None)
            assert a == b
            np.testing.assert_allclose(x, y, rtol=rtol if name == "losses" else 50 * rtol)


@pytest.fixture(autouse=True)
def _one_device(monkeypatch, request):
    number = getattr(request, "param", 1)
    monkeypatch.setattr(
        "hgeo.experiment.shared_resources.make_mesh", lambda: make_mesh(jax.devices()[:number])
    )


ADAMS = {"optimizers": ("adam",), "compare": (), "repeats": 3, "probe__steps": (3,)}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "hgeo.experiment.shared_resources.make_mesh", lambda: make_mesh(jax.devices()[:1])
        )
        run(smoke(**ADAMS, runs_together=3), folder)
    return folder


def test_repeats_equal_those_trained_one_after_another(calm, tmp_path):
    for size in (1, 2):
        run(smoke(**ADAMS, runs_together=size), tmp_path / str(size))
        assert_close(calm, tmp_path / str(size))
    losses = {row["loss"] for row in rows(calm, "losses") if row["step"] == "3"}
    assert len(losses) == 3, "repeats see the data in different orders"


@pytest.mark.slow
@pytest.mark.parametrize("_one_device", [4], indirect=True)
def test_runs_are_sharded_over_devices(calm, tmp_path, monkeypatch):
    meshes = []
    original = updates.with_runs
    monkeypatch.setattr(
        updates, "with_runs", lambda *args: meshes.append(original(*args)) or meshes[-1]
    )
    run(smoke(**ADAMS | {"repeats": 2}, runs_together=2, evaluation__batch_size=4), tmp_path)
    assert dict(meshes[0].shape) == {"runs": 2, "data": 2}
    alone = {
        (r["optimizer"], r["repeat"], r["step"]): float(r["loss"]) for r in rows(calm, "losses")
    }
    for row in rows(tmp_path, "losses"):
        key = (row["optimizer"], row["repeat"], row["step"])
        if key in alone:
            np.testing.assert_allclose(float(row["loss"]), alone[key], rtol=10 * TOLERANCE)


@pytest.mark.slow
def test_dropout_is_that_of_runs_alone(tmp_path):
    changes = {"model__dropout": 0.2, "repeats": 2, "optimizers": ("adam",), "compare": ()}
    for size in (1, 2):
        run(smoke(**changes, runs_together=size), tmp_path / str(size))
    assert_close(tmp_path / "1", tmp_path / "2")


@pytest.mark.slow
def test_running_statistics_are_each_runs_own(tmp_path):
    from tests.local_data import write_all

    (tmp_path / "data").mkdir()
    write_all(tmp_path / "data")
    changes = {
        "data_dir": str(tmp_path / "data"),
        "repeats": 2,
        "optimizers": ("adam",),
        "compare": (),
        "probe__layers": (10,),
        "probe__steps": (2,),
        "evaluation__steps": (2,),
        "steps": 2,
    }
    for size in (1, 2):
        run(smoke("resnet", **changes, runs_together=size), tmp_path / str(size))
    assert_close(tmp_path / "1", tmp_path / "2", rtol=2e-3)
    for a, b in zip(
        rows(tmp_path / "1", "evaluation"), rows(tmp_path / "2", "evaluation"), strict=True
    ):
        np.testing.assert_allclose(float(a["value"]), float(b["value"]), rtol=2e-3)


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        (loop, "_update_until", 2),
        (loop.Run, "save", 2),
        (loop.Run, "_measure", 2),
        (loop.Run, "record", 5),
    ],
)
def test_interrupted_anywhere_they_end_with_the_same_numbers(calm, tmp_path, owner, method, call):
    config = smoke(**ADAMS, runs_together=3)
    with interrupted(owner, method, call):
        run(config, tmp_path)
    run(config, tmp_path)
    # Runs that come back from different checkpoints are trained in programs of another size.
    assert_close(tmp_path, calm) if method == "save" else _assert_identical(tmp_path, calm)


def _assert_identical(folder, other):
    assert records(folder) == records(other)


def test_asked_to_stop_they_all_save_and_go_on(calm, tmp_path, monkeypatch):
    asked = []

    def requested(self):
        asked.append(None)
        return len(asked) >= 2

    config = smoke(**ADAMS, runs_together=3)
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "requested", requested)
        patch.setattr(Preemption, "stopped", lambda self: StopError())
        with pytest.raises(StopError):
            run(config, tmp_path)
    saved = [
        {int(p.name) for p in (tmp_path / f"runs/adam/repeat_{k}/checkpoints").glob("[0-9]*")}
        for k in range(3)
    ]
    assert saved[0] == saved[1] == saved[2]
    assert max(saved[0]) not in (0, 3, 6), "no event is there"
    run(config, tmp_path)
    _assert_identical(tmp_path, calm)


def test_one_that_diverges_leaves_the_others_alone(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    rates = [0.05, 1e30, 0.2]
    with jax.numpy_dtype_promotion("standard"):
        for size in (1, 3):
            tune(smoke(runs_together=size), "sgdm", rates, 0.2, tmp_path / str(size), console)
    alone, together = (
        json.loads((tmp_path / size / "tuning.json").read_text()) for size in ("1", "3")
    )
    assert together["best"] == alone["best"]
    for a, b in zip(alone["curve"], together["curve"], strict=True):
        assert a["learning_rate"] == b["learning_rate"]
        if a["loss"] is None:
            assert b["loss"] is None
        else:
            np.testing.assert_allclose(a["loss"], b["loss"], rtol=TOLERANCE)
    diverged = [
        [r for r in rows(tmp_path / size, "losses") if "1e" in r["optimizer"]] for size in "13"
    ]
    assert len(diverged[0]) == len(diverged[1]) < 6
    assert "diverged" in console.file.getvalue()
    # The rates differ: the same program serves all.
    losses = {row["loss"] for row in rows(tmp_path / "3", "losses") if row["step"] == "2"}
    assert len(losses) >= 2


def test_what_does_not_fit_is_trained_one_after_another_and_said(calm, tmp_path, monkeypatch):
    monkeypatch.setattr(updates, "SHARE_OF_MEMORY", 0.0)
    _, said = run(smoke(**ADAMS, runs_together=3), tmp_path)
    assert "adam: 3 runs together take" in said
    assert "they are trained one after another" in said
    assert_close(tmp_path, calm)


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_bad_numbers_of_runs(tmp_path, size):
    with pytest.raises(InputError, match=rf"runs_together must be a whole number .* not {size}"):
        run(smoke(runs_together=size), tmp_path)
