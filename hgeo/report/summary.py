"""The facts of an experiment that a report needs besides its records."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ExperimentSummary:
    """The facts of an experiment that a report needs besides its records.

    Attributes:
      workload: its name.
      optimizers: the runs' names, in order.
      compared_pairs: runs whose R_med stand side by side.
      probe_steps: the steps that the tables show.
      repeats: of each run.
      settings: all keys of the config.
    """

    workload: str
    optimizers: tuple[str, ...]
    compared_pairs: tuple[tuple[str, str], ...]
    probe_steps: tuple[int, ...]
    repeats: int
    settings: Mapping[str, Any]
