"""Locks of runs, also where the file system has none."""

import errno

import pytest

from hgeo.errors import InputError
from hgeo.training import locks
from hgeo.training.locks import RunLock


def test_a_run_in_use_is_refused_with_its_holder(tmp_path):
    lock = RunLock(tmp_path / "run")
    with pytest.raises(InputError, match=r"run is in use by process \d+ on "):
        RunLock(tmp_path / "run")
    lock.release()
    RunLock(tmp_path / "run").release()


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="run is not locked, because .* No locks available"):
        RunLock(tmp_path / "run").release()
