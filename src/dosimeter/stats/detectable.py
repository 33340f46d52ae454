"""How large a difference between two measurements of the same records would have to be to show.

"No evidence" from a small sample says little; the figure here says how little. It is the true difference that the test in
``paired`` finds in four cases of five, for records that scatter as those seen did.
"""

from __future__ import annotations

import math

import numpy as np

from dosimeter.stats.paired import PairedDifference, fewest_records

_POWER = 0.8
_STEPS = 40


def smallest_difference(
    found: PairedDifference, differences: np.ndarray, *, alpha: float, power: float = _POWER
) -> float | None:
    """The smallest detectable difference for the pairs behind ``found``; ``None`` where there is none, or none is known.

    Args:
        differences: (n,) after minus before.
        alpha: two-sided level of the single test.
    """
    if found.n < fewest_records(alpha):
        return None
    if np.isin(differences, (-1, 0, 1)).all():
        return smallest_change_of_proportion(found.n, found.changed, alpha=alpha, power=power)
    return smallest_change_of_mean(found.n, float(differences.std(ddof=1)), alpha=alpha, power=power)


def smallest_change_of_mean(n: int, deviation: float, *, alpha: float, power: float = _POWER) -> float | None:
    """For ``n`` differences with standard deviation ``deviation``, by Student's t; ``None`` if they do not scatter."""
    from scipy.stats import t

    if n < 2 or deviation <= 0:
        return None
    return float((t.ppf(1 - alpha / 2, n - 1) + t.ppf(power, n - 1)) * deviation / math.sqrt(n))


def smallest_change_of_proportion(
    n: int, changed: int, *, alpha: float, power: float = _POWER
) -> float | None:
    """For McNemar's exact test, where the share of records that change is the one seen, or the difference if that is more.

    ``None`` where not even a change of every record would show that often.
    """
    if change_power(1.0, n, changed, alpha=alpha) < power:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if change_power(middle, n, changed, alpha=alpha) >= power else (middle, high)
        )
    return high


def change_power(difference: float, n: int, changed: int, *, alpha: float) -> float:
    """Probability that McNemar's exact test of ``n`` records finds a true ``difference`` (above 0), in its direction."""
    from scipy.stats import binom

    share = max(changed / n, difference)
    if share == 0:
        return 0.0
    counts = np.arange(n + 1)
    weights = binom.pmf(counts, n, share)
    counts, weights = counts[weights > 1e-9], weights[weights > 1e-9]
    # The fewest gains among so many changes with 2 P(gains or more) <= alpha.
    fewest = binom.isf(alpha / 2, counts, 0.5) + 1
    return float((weights * binom.sf(fewest - 1, counts, (1 + difference / share) / 2)).sum())
