"""Several processes, as on TPU VMs and GPU clusters, here two with two CPU devices each."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.experiments import ROOT, load_config, rows, run
from tests.integration.parallel.two_processes import free_port, settings


def start(workdir, process, port, *more):
    arguments = [
        *(sys.executable, "-m", "hgeo.main", "--config=configs/quickstart.py:smoke"),
        *(f"--workdir={workdir}", "--distributed", f"--coordinator=localhost:{port}"),
        *("--num_processes=2", f"--process_id={process}", *more),
        "--config.probe.layers=(4,)",
        "--config.model.num_blocks=1",
    ]
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings(2)},
    )


def both(workdir, *more):
    port = free_port()
    processes = [start(workdir, n, port, *more) for n in (0, 1)]
    said = [process.communicate(timeout=280) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors[-2000:]
    # Gloo's threads write "[Gloo] Rank ..." at once, so that a line may lack its beginning.
    ours = lambda output: [
        line for line in output.splitlines() if "[Gloo]" not in line and "peer ranks" not in line
    ]
    return ["\n".join(ours(output)) for output, _ in said]


def test_two_processes_give_the_numbers_of_one_and_go_on(tmp_path):
    first, second = both(tmp_path / "two", "--config.steps=3", "--config.probe.steps=(0,3)")
    assert "R_med of SGD+M and Adam" in first
    assert second == "", "one process speaks"
    config = load_config(
        "quickstart", "smoke", steps=3, probe__steps=(0, 3), probe__layers=(4,), model__num_blocks=1
    )
    run(config, tmp_path / "one")
    for name, column in (("losses", "loss"), ("geometry", "value")):
        for two, one in zip(
            rows(tmp_path / "two", name), rows(tmp_path / "one", name), strict=True
        ):
            value = float(two.pop(column)), float(one.pop(column))
            np.testing.assert_allclose(*value, rtol=2e-3, err_msg=str(two))

    more = ("--config.steps=3", "--config.probe.steps=(0,1,3)")
    both(tmp_path / "two", *more)  # step 1 is replayed from the checkpoint of both
    assert {row["step"] for row in rows(tmp_path / "two", "geometry")} == {"0", "1", "3"}


@pytest.mark.parametrize("flag", ["--distributed"])
def test_processes_that_cannot_be_found(tmp_path, flag):
    command = [sys.executable, "-m", "hgeo.main", "--config=configs/quickstart.py:smoke", flag]
    result = subprocess.run(
        [*command, f"--workdir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 2
    assert "--coordinator, --num_processes and --process_id" in result.stderr
