"""The command line, in processes of its own: what it refuses and says."""

import subprocess
import sys

import pytest

from hgeo.experiment.accelerators import unused_accelerator
from tests.experiments import ROOT


def command(*arguments):
    return [sys.executable, "-m", "hgeo.main", *arguments]


def call(*arguments):
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/quickstart.py"], "workdir"),
        (["--config=configs/quickstart.py:huge", "--workdir=W"], "unknown scale 'huge'"),
        (
            ["--config=configs/nothing.py", "--workdir=W"],
            "no config file 'configs/nothing.py'; there are configs/bert.py, ",
        ),
        (
            ["--config=configs/lm.py:smoke", "--workdir=W", "--config.adam.learning_rat=3"],
            "unknown config key config.adam.learning_rat; did you mean config.adam.learning_rate ",
        ),
        (
            ["--config", "configs/lm.py:smoke", "--workdir=W", "--config.num_coordinates=3"],
            "config.num_coordinates; did you mean config.probe.num_coordinates?",
        ),
        (
            ["--config=configs/lm.py:smoke", "--workdir=W", "--config.probe=3"],
            "config.probe is a section of the config; set its keys, as config.probe.KEY=VALUE",
        ),
        (["--config=configs/lm.py:smoke", "--workdir=W", "--config.steps=0"], "at least 1, not 0"),
        (["--config=configs/lm.py:smoke", "--workdir=W", "extra"], "extra"),
    ],
)
def test_bad_command_line_is_one_line(tmp_path, arguments, message):
    result = call(*[a.replace("=W", f"={tmp_path}/w") for a in arguments])
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_help_says_the_few_things_a_person_needs():
    result = call("--help")
    for needed in (
        "--config=configs/quickstart.py",
        "--workdir",
        "Exit codes",
        "--[no]distributed",
    ):
        assert needed in result.stdout


def test_an_unused_accelerator_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert unused_accelerator(tmp_path) is None
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "accel0").touch()
    assert "a TPU" in unused_accelerator(tmp_path)
    assert "pip install -U 'hgeo[tpu]'" in unused_accelerator(tmp_path)
    (tmp_path / "dev" / "nvidia0").touch()
    assert "an NVIDIA GPU" in unused_accelerator(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert unused_accelerator(tmp_path) is None, "whoever asked for the CPU has it"
