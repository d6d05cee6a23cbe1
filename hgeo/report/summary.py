"""What a report says of the experiment whose records it shows."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ExperimentSummary:
    """What a report needs to know besides the records.

    Attributes:
      workload: its name.
      optimizers: the runs' names, in order.
      compared_pairs: those whose R_med stand side by side.
      probe_steps: the steps that the tables show.
      repeats: of each run.
      settings: all of them, to be looked up.
    """

    workload: str
    optimizers: tuple[str, ...]
    compared_pairs: tuple[tuple[str, str], ...]
    probe_steps: tuple[int, ...]
    repeats: int
    settings: Mapping[str, Any]
