"""The launch scripts, without a cluster."""

import os
import pathlib
import subprocess

LAUNCH = pathlib.Path(__file__).parent.parent / "experiments" / "launch"


def script(name, arguments=(), **variables):
    command = ["bash", str(LAUNCH / name), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_task_of_a_slurm_array_takes_its_share(tmp_path):
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    task = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "2"}
    given = ["--workdir=a folder"]
    done = script("slurm.sh", given, **task, SLURM_ARRAY_TASK_COUNT="4")
    assert done.stdout == "-m hgeo.main --workdir=a folder --config.share=2/4\n"
    again = script("slurm.sh", given, **task, SLURM_ARRAY_TASK_COUNT="1", SHARES="4")
    assert again.stdout == done.stdout
    outside = script("slurm.sh", given)
    assert outside.returncode != 0
    assert "start it by sbatch --array" in outside.stderr


def test_a_tpu_slice_gets_the_commit_and_the_command():
    done = script("tpu_vm.sh", ["--workdir=gs://b/a b"], TPU="slice", ZONE="zone", DRY_RUN="1")
    assert done.returncode == 0, done.stderr
    copy, start = done.stdout.split("gcloud compute tpus tpu-vm ssh", 1)
    assert copy.startswith("gcloud compute tpus tpu-vm scp")
    assert "slice:hgeo.tar.gz" in copy
    assert "python -m hgeo.main --distributed --workdir=gs://b/a" in start.replace("\\", "")
    nameless = script("tpu_vm.sh", DRY_RUN="1")
    assert nameless.returncode != 0
    assert "the name of the TPU VM" in nameless.stderr
