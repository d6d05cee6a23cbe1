"""Preemption: SIGTERM asks the train loop to save and end."""

import signal

import jax


class Preempted(Exception):  # noqa: N818 - it is an event and not an error
    """The state was saved after SIGTERM; the same command goes on from it."""


class Preemption:
    """Listens for SIGTERM while it is used as a context manager.

    With several processes they agree on the step at which all of them stop; JAX's own service hears
    the signal then.
    """

    def __init__(self):
        """Nothing has been asked yet."""
        self._requested = False
        self._before = None

    def __enter__(self):
        """Listens."""
        if jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_):
        """Hands the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def requested(self, step: int) -> bool:
        """Whether to stop after this step, the same answer in every process."""
        if jax.process_count() == 1:
            return self._requested
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    def _note(self, *_):
        self._requested = True
