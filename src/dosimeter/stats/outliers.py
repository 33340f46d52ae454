"""Is the largest of a few scores an outlier? Standard scores, and Grubbs' one-sided test (Grubbs 1969)."""

from __future__ import annotations

import math

import numpy as np


def z_scores(scores: np.ndarray) -> np.ndarray:
    """(scores - mean) / standard deviation with ``ddof=1``.

    Args:
        scores: (n,) finite, n >= 2.

    Returns:
        (n,) float. The largest reachable value is (n - 1) / sqrt(n); see :func:`largest_z`.

    Raises:
        ValueError: fewer than two scores, or all of them equal (no scale to measure by).
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"expected at least two scores, but got shape {scores.shape}")
    if np.ptp(scores) == 0:
        raise ValueError(f"all {len(scores)} scores equal {scores[0]:g}: their standard deviation is zero")
    standardised: np.ndarray = (scores - scores.mean()) / scores.std(ddof=1)
    return standardised


def largest_z(n: int) -> float:
    """The largest z-score (ddof=1) that any of ``n`` scores can have: (n - 1) / sqrt(n)."""
    return (n - 1) / math.sqrt(n)


def grubbs_critical(n: int, alpha: float = 0.05) -> float:
    """The one-sided critical value of the largest z-score among ``n`` normal scores.

    ``z > grubbs_critical(n, alpha)`` has probability at most ``alpha`` if no score is an outlier (family-wise).

    Raises:
        ValueError: n < 3 or alpha outside (0, 1).
    """
    from scipy.stats import t

    if n < 3 or not 0 < alpha < 1:
        raise ValueError(f"expected n >= 3 and 0 < alpha < 1, but got n = {n}, alpha = {alpha}")
    square = t.ppf(1 - alpha / n, n - 2) ** 2
    return float(largest_z(n) * math.sqrt(square / (n - 2 + square)))


def grubbs_p(z: float, n: int) -> float:
    """The family-wise p-value of the largest z-score ``z`` among ``n``: the inverse of :func:`grubbs_critical`.

    It is n times the tail of one score (Bonferroni), hence exact where it is small and never too small; at most 1.
    """
    from scipy.stats import t

    if n < 3:
        raise ValueError(f"expected n >= 3, but got {n}")
    if z <= 0:
        return 1.0
    top = largest_z(n)
    if z >= top * (1 - 1e-12):
        return 0.0
    statistic = math.sqrt(n * (n - 2) * z**2 / ((n - 1) ** 2 - n * z**2))
    return float(min(1.0, n * t.sf(statistic, n - 2)))
