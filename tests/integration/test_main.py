"""The command line, in processes of its own: stopped, killed, and on one device."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.experiments import ROOT, load_config, records, run


def command(*arguments):
    return [sys.executable, "-m", "hgeo.main", *arguments]


def call(*arguments):
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_one_device_gives_the_numbers_of_eight(tmp_path):
    """The command line sees one CPU device; this process has eight virtual ones."""
    arguments = ["--config=configs/quickstart.py:smoke", f"--workdir={tmp_path}/one"]
    result = call(*arguments)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "one" / "report.html").read_text()
    assert f"<pre>python -m hgeo.main {' '.join(arguments)}</pre>" in page
    assert "layers with ratio > 1" in result.stdout
    run(load_config("quickstart", "smoke"), tmp_path / "eight")
    for one, eight in zip(records(tmp_path / "one"), records(tmp_path / "eight"), strict=True):
        for a, b in zip(one.decode().splitlines(), eight.decode().splitlines(), strict=True):
            *names, x = a.split(",")
            *others, y = b.split(",")
            assert names[:3] == others[:3]
            if x not in ("loss", "value"):
                np.testing.assert_allclose(float(x), float(y), rtol=2e-3, err_msg=a)


def test_ctrl_c_and_kill_lose_nothing(tmp_path):
    """Stopped by Ctrl-C, by SIGTERM, killed, then left alone: an undisturbed run's numbers."""
    arguments = [
        *("--config=configs/quickstart.py:smoke", "--config.checkpoint_every=1"),
        *("--config.steps=60", "--config.optimizers=('sgdm',)", "--config.compare=()"),
        "--config.probe.layers=(4,)",
        "--config.model.num_blocks=1",
    ]
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    assert call(*arguments, f"--workdir={calm}").returncode == 0

    started = disturbed / "runs" / "sgdm" / "repeat_0" / "checkpoints"
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        wanted = len(finished_checkpoints(started)) + 2
        process = subprocess.Popen(
            command(*arguments, f"--workdir={disturbed}"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        deadline = time.monotonic() + 200
        while len(finished_checkpoints(started)) < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(stop)
        said, _ = process.communicate(timeout=200)
        if stop == signal.SIGINT:
            assert process.returncode == 130
            assert "the same command continues" in said
        if stop == signal.SIGTERM:
            assert process.returncode == 143
            assert "stopped by SIGTERM and saved" in said
    assert not (disturbed / "geometry.csv").exists()
    assert call(*arguments, f"--workdir={disturbed}").returncode == 0
    assert records(disturbed) == records(calm)


def finished_checkpoints(folder: pathlib.Path):
    return [p for p in folder.glob("*") if p.name.isdigit()]
