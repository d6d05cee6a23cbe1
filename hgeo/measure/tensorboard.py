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
    """Event files for TensorBoard in one folder.

    tensorboardX's `EventsWriter` writes them, since the `flush` of its `SummaryWriter` does not
    wait for its thread.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Takes the folder; the first `write` opens a file.

        Raises:
          ValueError: tensorboardX is not installed, or the folder is a file.
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
        """Writes scalars, and the histogram of log10 |entry| of each array, under their names.

        The file is complete when this returns. Histograms leave out entries that are zero or not
        finite. The first step that a process writes replaces this step and later steps of earlier
        processes.
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
        """The writer of a new file, whose first event makes `step` and later steps void."""
        from tensorboardX.event_file_writer import EventsWriter

        protocol = _protocol()
        os.makedirs(self._folder, exist_ok=True)
        # tensorboardX's file name has whole seconds, which two processes may share.
        prefix = os.path.join(self._folder, "events")
        self._writer = EventsWriter(prefix, f".{os.getpid()}.{time.time_ns()}")
        start = protocol.SessionLog(status=protocol.SessionLog.START)
        event = protocol.Event(step=step, wall_time=time.time(), session_log=start)
        self._writer.write_event(event)
        return self._writer


def _protocol() -> Any:
    return importlib.import_module("tensorboardX.proto.event_pb2")
