"""Probes whose layers each go their own way to the loss."""

import contextlib
import math
from collections.abc import Iterator

from hgeo.second_order import adjoint_weighted


@contextlib.contextmanager
def layers_apart(apart: bool = True) -> Iterator[None]:
    """Within it, what is traced shares no legs between layers.

    Each layer's equations then stand in the traced program as often as they run, so that its
    operations can be counted; where legs are shared, a condition in a loop decides which run.
    """
    before = adjoint_weighted.SHORTER
    adjoint_weighted.SHORTER = math.inf if apart else before
    try:
        yield
    finally:
        adjoint_weighted.SHORTER = before
