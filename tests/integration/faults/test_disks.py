"""Disks that are full or can't be written to, and two processes in one folder."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from hgeo.errors import InputError
from hgeo.records.run_records import LossRow, RunRecords
from hgeo.training.checkpoints import Checkpoints
from tests.damage import checkpoints, contents
from tests.experiments import ROOT, records, run
from tests.trajectories import least

CHANGES = {
    "probe__steps": (0, 12),
    "steps": 12,
    "checkpoint_every": 1,
    "optimizers": ("adam",),
}


def config(**changes):
    return least(**(CHANGES | changes))


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system; gives a function that remounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    mounted = subprocess.run([*mount, "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs needs root: {mounted.stderr.decode().strip()}")

    def change(options):
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    yield folder, change
    subprocess.run(["umount", "-l", folder], check=False)


def test_a_full_disk_is_said_and_the_run_goes_on_after_space_is_made(calm, small_disk):
    folder, change = small_disk
    work = folder / "work"
    with pytest.raises(InputError, match=r"(can't|could) be written.*run the same command"):
        run(config(), work)
    there = RunRecords(work / "runs/adam/repeat_0")
    assert there.repairs == []
    saved = checkpoints(work, "adam")
    own = Checkpoints(shutil.copytree(saved, calm.parent / "copy" / "checkpoints"))
    assert own.steps(), "something was saved before the disk was full"
    own.close()
    assert len(own.steps()) < 13
    change("size=50m")
    run(config(), work)
    assert records(work) == records(calm)


def test_records_on_a_full_disk_keep_what_they_held(small_disk):
    folder, change = small_disk
    own = RunRecords(folder)
    own.losses = {0: LossRow("adam", 0, 0, 0.0, 4.0)}
    own.write()
    before = (folder / "losses.csv").read_bytes()
    (folder / "filler").write_bytes(b"x" * (2**20 - 3 * 4096 * 4))
    own.losses = {step: LossRow("adam", 0, step, 0.0, 4.0) for step in range(9000)}
    with pytest.raises(InputError, match=r"losses\.csv can't be written: .*No space left"):
        own.write()
    assert (folder / "losses.csv").read_bytes() == before
    change("size=4m")
    own.write()
    assert len(RunRecords(folder).losses) == 9000


def test_a_read_only_disk_is_said_and_nothing_changes(calm, small_disk):
    folder, change = small_disk
    change("size=50m")
    work = shutil.copytree(calm, folder / "work")
    shutil.rmtree(checkpoints(work, "adam") / "12")
    change("ro")
    before = contents(work)
    with pytest.raises(InputError, match=r"can't be written to: .*Read-only"):
        run(config(), work)
    assert contents(work) == before
    change("rw")
    run(config(), work)
    assert records(work) == records(calm)


def test_one_process_a_share_until_it_dies(calm, tmp_path):
    """A second process is refused while the first lives, and not after `kill -9`."""
    arguments = [sys.executable, "-m", "hgeo.main", "--config=configs/quickstart.py:smoke"]
    arguments += [f"--workdir={tmp_path}/work", "--config.steps=100000", "--config.compare=()"]
    arguments += [
        "--config.optimizers=('adam',)",
        "--config.probe.steps=()",
        "--config.model.num_blocks=1",
        "--config.probe.layers=(4,)",
    ]
    first = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    lock = tmp_path / "work/runs/adam/repeat_0/.lock"
    try:
        deadline = time.monotonic() + 100
        while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        longer = {"steps": 100000, "probe__steps": (), "checkpoint_every": 0}
        given = config(
            **longer,
            probe__num_coordinates=4,
            same_loss__window=25,
            sgdm__learning_rate=0.2,
        )
        with pytest.raises(InputError, match=rf"in use by process {first.pid} on "):
            run(given, tmp_path / "work")
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    with pytest.raises(InputError, match="holds another experiment's runs"):
        run(config(), tmp_path / "work")
    shutil.rmtree(tmp_path / "work/runs/adam/repeat_0/checkpoints", ignore_errors=True)
    (tmp_path / "work/config.json").unlink()
    run(config(), tmp_path / "work")
    assert records(tmp_path / "work") == records(calm)
