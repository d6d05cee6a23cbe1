"""Spearman's rank correlation and its bootstrap."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

DRAWS = 4000


def rank_correlation(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    """ρ and its p-value against independence; NaN for fewer than three pairs."""
    if len(first) < 3:
        return float("nan"), float("nan")
    found: Any = spearmanr(first, second)
    return float(found.statistic), float(found.pvalue)


def bootstrap_of_rank_correlation(
    first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable]
) -> np.ndarray:
    """ρ over resampled groups, each with all of its points; draws without a ρ are left out.

    Points of one group, such as the steps of one pair of optimizers, are not independent.
    """
    members = [
        [k for k, group in enumerate(groups) if group == one] for one in dict.fromkeys(groups)
    ]
    rng = np.random.default_rng(0)
    x, y = np.asarray(first, float), np.asarray(second, float)
    found = []
    for _ in range(DRAWS if len(first) > 2 else 0):
        drawn = np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])
        # About their mean, so that the correlation is a cosine.
        ranks = rankdata([x[drawn], y[drawn]], axis=1) - (len(drawn) + 1) / 2
        lengths = np.linalg.norm(ranks, axis=1)
        if lengths.all():
            found.append(ranks[0] @ ranks[1] / (lengths[0] * lengths[1]))
    return np.array(found)
