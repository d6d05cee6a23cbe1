"""Max over median of d squared Gaussians: its exact distribution, by quadrature.

With the middle order statistics y₁ ≤ y₂ of the d squares (y₁ = y₂ where d is odd) the median is
their mean, and given y₂ the m larger squares are independent draws above y₂, so that

    P(max / median ≤ ρ) = E[ ((F(ρ (y₁+y₂)/2) − F(y₂)) / (1 − F(y₂)))^m ].
"""

import functools

import numpy as np
from scipy import special

NODES = 50
RATIOS = np.geomspace(1, 1e4, 1500)


@functools.cache
def distribution(d: int) -> np.ndarray:
    """P(max/median ≤ ρ) at each of `RATIOS`, for d ≥ 3 squared Gaussians."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = (nodes + 1) / 2, weights / 2
    k = d // 2 + 1  # the upper middle one's rank; m = d − k lie above it
    m = d - k
    upper = special.betaincinv(k, m + 1, nodes)  # quantiles of F(y₂)
    if d % 2:
        lower, weight = upper[:, None], weights[:, None]
    else:  # F(y₁) is the largest of k−1 uniform draws below F(y₂)
        lower = upper[:, None] * nodes[None, :] ** (1 / (k - 1))
        weight = weights[:, None] * weights[None, :]
    square = lambda u: special.ndtri((1 + u) / 2) ** 2
    median = (square(lower) + square(upper)[:, None]) / 2
    reached = special.erf(np.sqrt(RATIOS[:, None, None] * median / 2))
    share = np.clip((reached - upper[:, None]) / (1 - upper[:, None]), 0, 1)
    return np.sum(weight * share**m, axis=(1, 2))


def expectation(d: int) -> float:
    """E[max/median], 1 + ∫ P(max/median > ρ) dρ."""
    return float(1 + np.trapezoid(1 - distribution(d), RATIOS))


def median(d: int) -> float:
    """The median of max/median."""
    return float(np.interp(0.5, distribution(d), RATIOS))
