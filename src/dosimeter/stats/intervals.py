"""Intervals for proportions and for means over clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Interval:
    """``low`` and ``high`` with the method and level that made them, in words."""

    low: float
    high: float
    method: str


def proportion_interval(
    successes: int, n: int, *, level: float = 0.95, method: Literal["exact", "wilson"] = "exact"
) -> Interval:
    """Two-sided interval of a proportion: Clopper-Pearson (``exact``) or Wilson.

    Raises:
        ValueError: not 0 <= successes <= n, or n = 0.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"expected 0 <= successes <= n and n > 0, but got {successes} of {n}")
    found = binomtest(successes, n).proportion_ci(level, method=method)
    name = "Clopper-Pearson" if method == "exact" else "Wilson"
    return Interval(float(found.low), float(found.high), f"{name}, {level:.0%}")


def cluster_bootstrap(
    values: np.ndarray, generator: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of column means when whole rows are resampled.

    Args:
        values: (clusters, columns) finite; one row per independent unit.
        generator: source of the resamples.

    Returns:
        (low, high), each (columns,). With one row both equal that row.
    """
    values = np.asarray(values, dtype=float)
    clusters = len(values)
    counts = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    means = counts @ values / clusters
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
