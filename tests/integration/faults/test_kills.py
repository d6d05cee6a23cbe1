"""`kill -9` at random moments, each in a separate process."""

import json
import subprocess
import sys

import pytest

from tests.experiments import ROOT

KILLS = 30


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path):
    command = [
        sys.executable,
        "-m",
        "experiments.soak.__main__",
        f"--kills={KILLS}",
        f"--seed={KILLS}",
    ]
    result = subprocess.run(
        [*command, f"--workdir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["kills"] == KILLS
    assert found["runs"] >= 1
    assert found["differences"] == []
