"""`experiments.reproduce` trains the linear networks, at smoke scale."""

import csv
import dataclasses

import pytest
from etils import epath
from rich.console import Console

from experiments import reproduce
from experiments.paper.linear import runs
from experiments.paper.linear.runs import Run, load_config, setup, trained
from experiments.paper.linear.updates import SgdMomentum

NAMES = ["theorem1", "corollary1", "theorem2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("linear")
    assert reproduce.main([*NAMES, f"--workdir={path}", "--scale=smoke"]) == 0
    return path


@pytest.mark.parametrize("name", NAMES)
def test_writes_everything(folder, name):
    with (folder / f"{name}.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= 4
    assert "| --- |" in (folder / f"{name}.md").read_text()
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / f"{name}.svg").read_text()


def test_theorem2_agrees_with_the_dense_hessian(folder):
    with (folder / "theorem2.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["dense_error"]) < 1e-6 for row in rows)
    assert all(float(row["after"]) < float(row["before"]) for row in rows)


def test_nothing_is_trained_twice(folder, monkeypatch, capsys):
    def refuse(*_):
        raise AssertionError("trained again")

    before = (folder / "corollary1.csv").read_text()
    monkeypatch.setattr(runs, "train_seeds", refuse)
    assert reproduce.main(["corollary1", f"--workdir={folder}", "--scale=smoke"]) == 0
    assert (folder / "corollary1.csv").read_text() == before
    assert "corollary1" in capsys.readouterr().out


def test_refuses_another_setups_runs(folder, monkeypatch, capsys):
    config = load_config("smoke")
    config.seed = 1
    monkeypatch.setattr("experiments.paper.linear.theorem1.load_config", lambda scale: config)
    assert reproduce.main(["theorem1", f"--workdir={folder}", "--scale=smoke"]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_too_large_a_rate_is_marked_diverged(tmp_path):
    config = load_config("smoke")
    usual = setup(config, "sgdm", 8, "r_med")
    unstable = dataclasses.replace(usual, rule=SgdMomentum(5.0, 0.9))
    short = dataclasses.replace(usual, steps=4)
    runs = [Run("unstable", unstable, 2), Run("short", short, 2)]
    found = trained(config, runs, epath.Path(tmp_path), Console(quiet=True))
    assert [set(runs.status) for runs in found] == [{"diverged"}, {"unfinished"}]
    assert not found[0].ok.any()
