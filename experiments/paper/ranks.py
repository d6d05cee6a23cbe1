"""Spearman's rank correlation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr


def rank_correlation(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    """ρ and its p-value against independence; NaN for fewer than three pairs."""
    if len(first) < 3:
        return float("nan"), float("nan")
    found: Any = spearmanr(first, second)
    return float(found.statistic), float(found.pvalue)
