"""Work that is shared out, asked to stop, and kept in part."""

import os
import signal
import threading

import pytest

from hgeo.errors import InputError
from hgeo.training import loop
from hgeo.training.locks import RunLock
from hgeo.training.preemption import Preempted
from tests.experiments import records, run
from tests.interruptions import interrupted
from tests.trajectories import SWITCH, smoke


def test_shares_fill_one_folder(tmp_path):
    whole = smoke(repeats=2, adam_after=SWITCH, optimizers=("sgdm", "adam", "adam_after"))
    run(whole, tmp_path / "whole")
    for share in ("2/3", "1/3", "3/3"):
        config = smoke(repeats=2, adam_after=SWITCH, optimizers=whole.optimizers, share=share)
        _, said = run(config, tmp_path / "shared")
        assert ("no report yet; other shares have not finished" in said) == (share != "3/3")
    assert records(tmp_path / "shared") == records(tmp_path / "whole")


def test_a_second_process_is_refused_while_the_first_lives(tmp_path):
    config = smoke(optimizers=("adam",), compare=())
    lock = RunLock(tmp_path / "runs/adam/repeat_0")
    with pytest.raises(InputError, match=rf"in use by process {os.getpid()} on "):
        run(config, tmp_path)
    lock.release()
    finite, _ = run(config, tmp_path)
    assert finite


def test_sigterm_saves_and_the_next_start_goes_on(tmp_path):
    config = smoke()
    run(config, tmp_path / "calm")
    assert threading.current_thread() is threading.main_thread()
    terminate = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with interrupted(loop, "_update_until", 2, action=terminate, ends_with=Preempted):
        run(config, tmp_path / "stopped")
    saved = {
        int(p.name) for p in (tmp_path / "stopped/runs/sgdm/repeat_0/checkpoints").glob("[0-9]*")
    }
    assert saved == {0, 1}, "it saved at the next update, which no event asks for"
    run(config, tmp_path / "stopped")
    assert records(tmp_path / "stopped") == records(tmp_path / "calm")


@pytest.mark.slow
def test_only_measured_checkpoints_are_kept(tmp_path):
    config = smoke(checkpoint_every=1, keep_checkpoints="measured")
    run(config, tmp_path)
    kept = {int(p.name) for p in (tmp_path / "runs/adam/repeat_0/checkpoints").glob("[0-9]*")}
    assert kept == {0, 3, 6}
    run(smoke(checkpoint_every=1), tmp_path / "all")
    kept = {int(p.name) for p in (tmp_path / "all/runs/adam/repeat_0/checkpoints").glob("[0-9]*")}
    assert kept == set(range(7))
    assert records(tmp_path) == records(tmp_path / "all")
