"""Did a figure change between two measurements of the same records? Tests, intervals and Holm's correction.

Proportions (every value 0 or 1): McNemar's test in its exact form, which is the binomial test of the records that
changed; the interval is Tango's (1998), which inverts the score test that McNemar's is the special case of and keeps
its level where few records changed or all changed one way (a Wald or bootstrap interval then has no width).

Other values: the sign-flip test of the mean, exact up to 14 records. Mean, because that is what the metric is;
Wilcoxon's test would answer another question (the median of pairwise means). The interval inverts the same test: its ends
are order statistics of the means of subsets (Hartigan 1969), so that test and interval never contradict each other. Both
suppose differences that scatter symmetrically about their mean; with many records, any with a variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_EXACT_UP_TO = 14
_SUBSETS = 9_999
_SUBSETS_AT_ONCE = 256
#: Sums of the same numbers in another order differ by rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedDifference:
    """Mean of ``after`` minus mean of ``before``.

    Attributes:
        low, high: interval; infinite where so few records cannot bound it.
        p: two-sided, that the true difference is the null value.
        changed: records whose values differ.
        test, interval: method and level in words.
    """

    n: int
    changed: int
    difference: float
    low: float
    high: float
    p: float
    test: str
    interval: str


def compare_pairs(
    before: np.ndarray,
    after: np.ndarray,
    generator: np.random.Generator,
    *,
    null: float = 0.0,
    level: float = 0.95,
) -> PairedDifference:
    """Compare ``before`` and ``after``, (n,) each, of the same records in the same order, by what their values call for.

    Args:
        generator: for subsets of more than 14 records with values other than 0 and 1.
        null: difference that is tested.

    Raises:
        ValueError: different lengths, no record, or values that are not finite.
    """
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if before.ndim != 1 or before.shape != after.shape or not len(before):
        raise ValueError(
            f"expected values of the same records, but got shapes {before.shape} and {after.shape}"
        )
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError("expected finite values")
    if np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all():
        gained, lost = int((after > before).sum()), int((after < before).sum())
        return compare_proportions(gained, lost, len(before), null=null, level=level)
    return compare_means(after - before, generator, null=null, level=level)


def compare_proportions(
    gained: int, lost: int, n: int, *, null: float = 0.0, level: float = 0.95
) -> PairedDifference:
    """Of ``n`` records, ``gained`` went from 0 to 1 and ``lost`` from 1 to 0. A null other than 0 has the score test."""
    if not 0 <= gained + lost <= n or min(gained, lost) < 0 or n == 0:
        raise ValueError(f"expected gained + lost <= n and n > 0, but got {gained}, {lost} and {n}")
    from scipy.stats import binomtest, norm

    if null == 0:
        p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        test = "McNemar, exact"
    else:
        p = float(2 * norm.sf(abs(_score(null, gained, lost, n))))
        test = f"score test of {null:+g}"
    low, high = _tango(gained, lost, n, float(norm.ppf((1 + level) / 2)))
    return PairedDifference(
        n, gained + lost, (gained - lost) / n, low, high, p, test, f"Tango, paired, {level:.0%}"
    )


def _score(null: float, gained: int, lost: int, n: int) -> float:
    """Tango's statistic: (gained - lost - n null) over its deviation under the null, at most likely shares given it."""
    a, b = 2 * n, -gained - lost + (2 * n - gained + lost) * null
    c = -lost * null * (1 - null)
    share_lost = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * share_lost + null * (1 - null))
    distance = gained - lost - n * null
    if variance <= _ROUNDING:
        return 0.0 if abs(distance) <= _ROUNDING else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _tango(gained: int, lost: int, n: int, z: float) -> tuple[float, float]:
    from scipy.optimize import brentq

    difference, end = (gained - lost) / n, 1 - 1e-10

    def beyond(null: float, sign: int) -> float:
        return max(min(sign * _score(null, gained, lost, n), 1e6), -1e6) - z

    low, high = -1.0, 1.0
    if difference > -1 and beyond(-end, 1) > 0:
        low = float(brentq(beyond, -end, difference, args=(1,), xtol=1e-10))
    if difference < 1 and beyond(end, -1) > 0:
        high = float(brentq(beyond, difference, end, args=(-1,), xtol=1e-10))
    return low, high


def compare_means(
    differences: np.ndarray, generator: np.random.Generator, *, null: float = 0.0, level: float = 0.95
) -> PairedDifference:
    """Sign-flip test that ``differences``, (n,), scatter symmetrically about ``null``, and the interval of their mean.

    Flipping a set of signs reverses the order of the sums exactly if the mean of that set lies on the other side of the
    null; so the means of all subsets hold the p-value of every null, and thereby the interval.
    """
    n = len(differences)
    means = np.sort(_subset_means(differences, generator))
    count = len(means) + 1
    slack = _ROUNDING * max(1.0, float(np.abs(differences).max()))
    below = int(np.searchsorted(means, null + slack, side="right"))
    above = len(means) - int(np.searchsorted(means, null - slack, side="left"))
    p = min(1.0, 2 * (min(below, above) + 1) / count)
    outside = math.floor(count * (1 - level) / 2 + 1e-9)
    low, high = (float(means[outside - 1]), float(means[-outside])) if outside else (-math.inf, math.inf)
    mean = float(differences.mean())
    how = "exact" if n <= _EXACT_UP_TO else f"{len(means):,} draws"
    return PairedDifference(
        n,
        int((differences != 0).sum()),
        mean,
        min(low, mean),
        max(high, mean),
        p,
        f"sign flips, {how}",
        f"sign flips inverted, paired, {level:.0%}",
    )


def _subset_means(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Means of all non-empty subsets, or of random ones where there are too many."""
    n = len(values)
    if n <= _EXACT_UP_TO:
        inside = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
        return np.asarray(inside @ values / inside.sum(1))
    found = []
    for start in range(0, _SUBSETS, _SUBSETS_AT_ONCE):
        rows = min(_SUBSETS_AT_ONCE, _SUBSETS - start)
        drawn = np.frombuffer(generator.bytes(rows * -(-n // 8)), dtype=np.uint8).reshape(rows, -1)
        inside = np.unpackbits(drawn, axis=1, count=n)
        sizes = np.maximum(inside.sum(1), 1)
        found.append(inside.astype(float) @ values / sizes)
    return np.concatenate(found)


def fewest_records(alpha: float) -> int:
    """Records that a paired test needs before any outcome whatever has a p-value of ``alpha`` or less: 6 for 0.05."""
    return math.ceil(1 - math.log2(alpha) - 1e-12)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: those at most alpha hold together with error alpha."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
