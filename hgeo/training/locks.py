"""Locks: one process at a time works on a run."""

import fcntl
import os
import socket
import warnings
from pathlib import Path

import jax
from etils import epath

from hgeo.errors import InputError


class RunLock:
    """A lock on a run's folder, which the operating system releases when the process ends.

    It locks a file in the folder. A folder that is not on a local file system (`gs://...`), or on
    one without locks, has no lock. Of the processes of one program the first holds it.
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
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise InputError(f"{folder} is in use by {holder}; wait for it or stop it") from error
        except OSError as error:
            warnings.warn(
                f"{folder} is not locked, because its file system has no locks ({error}): start "
                "one process at a time on a run",
                stacklevel=2,
            )
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Releases the lock."""
        if self._file is not None:
            self._file.close()
