"""Locks: one process at a time works on a run."""

import fcntl
import os
import socket
from pathlib import Path

import jax
from etils import epath

from hgeo.errors import InputError


class RunLock:
    """A lock on a run's folder, held until the process ends, however it ends.

    It is one of the operating system's on a file in the folder; a folder that is not on a local
    file system (`gs://...`) has none. Of the processes of one program the first one holds it.
    """

    def __init__(self, folder: epath.PathLike):
        """Takes the lock.

        Raises:
          InputError: another process holds it.
        """
        self._file = None
        if "://" in str(folder) or jax.process_index() > 0:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._file = (Path(folder) / ".lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise InputError(f"{folder} is being worked on by {holder}; wait or stop it") from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
