"""How several processes agree to stop."""

import jax
from jax.experimental import multihost_utils

from hgeo.training.preemption import Preemption


class SyncPoint:
    """JAX's rule: stop at the number after the one that was reported last before the signal."""

    def __init__(self):
        self.last, self.stop = 0, None

    def signal(self):
        self.stop = self.last + 1

    def __call__(self, number):
        self.last = max(self.last, number)
        return number == self.stop


def test_a_signal_is_honoured_at_the_next_question_whatever_step_that_is(monkeypatch):
    """Steps begin anew with each run, and those before a measurement are not asked about."""
    service = SyncPoint()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", service)
    for asked_before in range(5):
        preemption = Preemption()
        service.last, service.stop = 0, None
        assert not any(preemption.requested() for _ in range(asked_before))
        service.signal()
        assert preemption.requested()
