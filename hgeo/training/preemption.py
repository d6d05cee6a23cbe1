"""Preemption: SIGTERM or Ctrl-C asks the train loop to save and end."""

import os
import signal
import sys

import jax


class Preempted(Exception):  # noqa: N818 - it is an event and not an error
    """The state was saved after a signal; the same command continues from it.

    Attributes:
      exit_code: 128 + the signal's number, as a shell gives it.
    """

    def __init__(self, number: int):
        """Takes the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Preemption:
    """Listens for SIGTERM and SIGINT while it is used as a context manager.

    The first signal takes effect between two updates or measurements; a second one ends the process
    at once, as a kill would. Several processes agree on the step at which all of them stop, and
    JAX's own service listens for SIGTERM then.
    """

    def __init__(self):
        """Starts without a request to stop."""
        self._signal: int | None = None
        self._before = {}
        self._asked = 0

    def __enter__(self):
        """Listens."""
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        """Restores the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether to stop now; the same answer in every process, as each asks equally often."""
        if jax.process_count() == 1:
            return self._signal is not None
        from jax.experimental import multihost_utils

        # JAX stops at the number that follows the one at which the signal came, and at no other.
        self._asked += 1
        return multihost_utils.reached_preemption_sync_point(self._asked)

    def stopped(self) -> Preempted:
        """What to raise once the state is saved."""
        return Preempted(self._signal or signal.SIGTERM)

    def _note(self, number, _):
        if self._signal is not None:
            os._exit(128 + number)
        self._signal = number
        print("\nstopping after this step; a second signal stops at once", file=sys.stderr)
