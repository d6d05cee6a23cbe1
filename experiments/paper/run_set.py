"""A set of runs: the config that it starts from, and what it changes in it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from hgeo.config import Config

LARGE_SCALES = ("paper", "gpu", "cpu")

STATISTICS = ("r_med", "r_med_spread", "alignment", "preconditioned")


@dataclasses.dataclass(frozen=True)
class RunSet:
    """Runs that are trained together.

    Attributes:
      config: the file below `configs/` that they start from.
      shows: what they are, in a few words.
      changes: the values of keys (`probe.eps`) or blocks of the config that differ from the file's.
      at: more of them by scale.
      moments: where they are probed, as shares of training in exact fractions (numerator,
        denominator): those of the paper's checkpoints, and what lies between.
      derived: gives more changes from the config that all others have made.
      repeats: by scale.
      probes_of: another set, whose checkpoints are probed as this one says; nothing is trained.
        Without moments it has that set's.
      minutes: of one run at `cpu` scale on 2 cores; 0 for those of its config.
    """

    config: str
    shows: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    moments: tuple[tuple[int, int], ...] = ()
    derived: Callable[[Config], Mapping[str, Any]] = lambda config: {}
    repeats: Mapping[str, int] = dataclasses.field(default_factory=dict)
    probes_of: str = ""
    minutes: float = 0.0
