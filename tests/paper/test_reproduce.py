"""What `experiments.reproduce` refuses and lists."""

import pytest

from experiments import reproduce
from experiments.paper import training
from experiments.paper.registry import EXPERIMENTS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table5", "--workdir=x", "--scale=huge"], "unknown scale 'huge'"),
        (["table5", "--workdir=x", "--repeats=0"], "--repeats must be at least 1, not 0"),
        (["table5", "--workdir=x", "--data_dir=/nowhere"], "/nowhere"),
    ],
)
def test_bad_arguments_take_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training.forget()
    assert reproduce.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_list_says_what_is_published(capsys):
    assert reproduce.main(["--list"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert max(map(len, said)) <= 100
    lines = [line for line in said if not line.startswith(" ")]
    assert [line.split()[0] for line in lines[1:]] == list(EXPERIMENTS)
    published = {line.split()[0]: "not yet published" not in line for line in lines[1:]}
    assert published["theorem1"]


def test_an_override_of_an_experiment_without_runs(tmp_path, capsys):
    assert reproduce.main(["theorem1", "--override=steps=3", f"--workdir={tmp_path}"]) == 2
    assert "--override changes runs, which theorem1 has not" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
