"""Which inputs to buy, and when to stop buying (not in the paper, which buys at random).

``k-center`` spreads the purchase over the pool (greedy 2-approximation, Gonzalez 1985; for active learning Sener and
Savarese 2018); ``disagreement`` buys where two copies trained so far say the most different things.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import unit_rows
from dosimeter.core.errors import InputError

Selection = Literal["random", "k-center", "disagreement"]


def k_center(
    vectors: np.ndarray, count: int, *, bought: np.ndarray | None = None, first: int = 0
) -> np.ndarray:
    """``count`` rows of ``vectors`` (n, d), each the one farthest from all chosen or bought before it.

    Args:
        bought: rows that are there already; they are not chosen again.
        first: row to begin with where nothing was bought.

    Returns:
        (count,) int64 distinct rows. The largest distance of any row to the nearest chosen one is at most twice the
        smallest possible.

    Raises:
        InputError: fewer rows left than ``count``.
    """
    n = len(vectors)
    chosen = [] if bought is None else list(map(int, bought))
    _check_left(n - len(chosen), count)
    vectors = np.asarray(vectors, dtype=np.float32)
    squares = (vectors**2).sum(1)
    nearest = np.full(n, np.inf, dtype=np.float32)

    def note(row: int) -> None:
        distance = squares + squares[row] - 2 * (vectors @ vectors[row])
        np.minimum(nearest, np.maximum(distance, 0), out=nearest)
        nearest[row] = -1  # never again, not even among copies at distance 0

    for row in chosen:
        note(row)
    picked: list[int] = []
    while len(picked) < count:
        row = first if not chosen and not picked else int(nearest.argmax())
        note(row)
        picked.append(row)
    return np.array(picked, dtype=np.int64)


def most_disputed(one: np.ndarray, other: np.ndarray, count: int, *, bought: np.ndarray) -> np.ndarray:
    """The ``count`` rows that were not bought for which the two copies' unit vectors (n, d) differ most.

    Raises:
        InputError: fewer rows left than ``count``.
    """
    _check_left(len(one) - len(bought), count)
    agreement = (unit_rows(one) * unit_rows(other)).sum(1)
    agreement[bought] = np.inf
    return np.argsort(agreement, kind="stable")[:count]


def at_random(n: int, count: int, generator: np.random.Generator, *, bought: np.ndarray) -> np.ndarray:
    """``count`` of ``n`` rows that were not bought, in random order.

    Raises:
        InputError: fewer rows left than ``count``.
    """
    left = np.setdiff1d(np.arange(n), bought)
    _check_left(len(left), count)
    return generator.permutation(left)[:count]


def _check_left(left: int, count: int) -> None:
    if count > left:
        raise InputError(
            f"expected to choose at most the {left} inputs that are left to buy, but {count} are wanted."
        )


def saturated(cosines: list[float], least_gain: float) -> bool:
    """Whether the last purchase raised the held-out cosine by less than ``least_gain``."""
    return len(cosines) > 1 and cosines[-1] - cosines[-2] < least_gain
