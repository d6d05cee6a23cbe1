"""Numbers that may not change unseen: losses and R_med of a short run of each workload."""

import json

import numpy as np
import pytest

from tests.golden import CHANGES, FILE, measured
from tests.probes.dense import slow

# Between machines and XLA versions sums are in another order: float32 rounding, amplified by a few
# updates, and more by the ratio of entries that nearly vanish.
TOLERANCE = {"loss": 1e-3, "r_med": 5e-2}


@pytest.mark.parametrize("name", slow(CHANGES, ("translation", "bert", "resnet")))
def test_numbers_are_those_that_were_accepted(name, small_data):
    accepted, found = json.loads(FILE.read_text())[name], measured(name, small_data)
    for kind, values in accepted.items():
        assert list(found[kind]) == list(values)
        for what, value in values.items():
            assert np.isclose(found[kind][what], value, rtol=TOLERANCE[kind], atol=0), (
                f"{name}, {kind} of {what}: {found[kind][what]} where {value} was accepted. If "
                "that change is intended: python -m tests.golden, and commit tests/golden.json"
            )
