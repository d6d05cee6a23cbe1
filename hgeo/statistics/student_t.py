"""Quantiles of Student's t for whole degrees of freedom."""

import math


def t_quantile(probability: float, freedom: int) -> float:
    """The t that a variable of `freedom` degrees, at least 1, exceeds with 1 − `probability`.

    Args:
      probability: at least 1/2, below 1.
      freedom: degrees of freedom.

    Reference:
      Abramowitz, Stegun. Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while _within(high, freedom) < 2 * probability - 1:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if _within(middle, freedom) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _within(t: float, freedom: int) -> float:
    """The probability of a magnitude of at most t."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
