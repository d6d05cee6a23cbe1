"""A set of runs: the config that it starts from, and what it changes in it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from hgeo.config import Config

LARGE_SCALES = ("paper", "gpu", "cpu")

STATISTICS = ("r_med", "r_med_spread", "alignment", "preconditioned")


def new_optimizers(config: Config) -> dict[str, Any]:
    """Changes that train AdamW, Lion and Muon: AdamW at Adam's rate, the others at usual rates."""
    adam = {"learning_rate": config.adam.learning_rate, "b1": 0.9, "b2": 0.98, "eps": 1e-9}
    return {
        "optimizers": ("adamw", "lion", "muon"),
        "compare": (("adamw", "lion"),),
        "adamw": {**adam, "weight_decay": 1e-2},
        "lion": {"learning_rate": 1e-4, "b1": 0.9, "b2": 0.99, "weight_decay": 0.0},
        "muon": {"learning_rate": 1e-2, "adam_learning_rate": 1e-3},
    }


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
