"""TensorBoard: scalars and histograms as event files, without TensorFlow."""

import importlib
import importlib.util
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

PACKAGE = "tensorboardX"


class EventFiles:
    """Event files in one folder, which TensorBoard shows.

    They are written by the package's own writer of records and not by its `SummaryWriter`, whose
    `flush` leaves behind what its thread has not come to yet.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Takes the folder; the first file is begun when something is written.

        Raises:
          ValueError: the package that writes them is not installed.
        """
        if importlib.util.find_spec(PACKAGE) is None:
            raise ValueError(
                f"tensorboard={str(folder)!r} needs the package {PACKAGE}, which is not "
                "installed: pip install 'hgeo[tensorboard]'"
            )
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise ValueError(f"tensorboard={os.fspath(folder)!r} must be a folder, but is a file")
        self._folder, self._writer = os.fspath(folder), None

    def write(
        self, step: int, scalars: Mapping[str, float], arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Writes scalars under their names, and of arrays the histogram of log10 |entry|.

        All of it is in the file when this returns. Entries that are zero or not finite have no
        place in a histogram. The first step written takes the place of what an earlier process
        has written of it and of later ones.
        """
        from tensorboardX import summary

        event_of = _protocol().Event
        writer = self._writer or self._begun(step)
        values = [summary.scalar(name, value) for name, value in scalars.items()]
        for name, array in arrays.items():
            magnitude = np.abs(np.asarray(array, np.float64))
            shown = magnitude[np.isfinite(magnitude) & (magnitude > 0)]
            if shown.size:
                values.append(summary.histogram(name, np.log10(shown), "auto"))
        for value in values:
            writer.write_event(event_of(step=step, wall_time=time.time(), summary=value))
        writer.flush()

    def _begun(self, step: int) -> Any:
        """The writer of a new file, which begins by taking back `step` and later ones."""
        from tensorboardX.event_file_writer import EventsWriter

        protocol = _protocol()
        os.makedirs(self._folder, exist_ok=True)
        # The name has whole seconds, in which another process may begin too.
        prefix = os.path.join(self._folder, "events")
        self._writer = EventsWriter(prefix, f".{os.getpid()}.{time.time_ns()}")
        start = protocol.SessionLog(status=protocol.SessionLog.START)
        event = protocol.Event(step=step, wall_time=time.time(), session_log=start)
        self._writer.write_event(event)
        return self._writer


def _protocol() -> Any:
    return importlib.import_module("tensorboardX.proto.event_pb2")
