"""What returned vectors give away about a defence, and what they still say about the vectors behind it.

Detection is by the pattern of zeros (top-k), the decimal grid (rounding) and the variance between two answers to one
input (noise drawn per query). Noise and poisoning that are drawn once per input look like any other vector, to repeats
as well: nothing here sees them. Beyond the paper (StolenEncoder, arXiv 2201.05889). Arrays in, values out; the loss that
trains on the evidence is in ``interval_loss``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom

from dosimeter.core.errors import InputError

_BY_CHANCE = 1e-9  # a pattern that undefended vectors show more often than this is not called a defence
_FINEST = 6  # decimals; float32 holds about seven digits
_FLOAT32 = 2.0**-23
_HOLE = 2.5  # steps between neighbouring entries; what is not a plain hole only costs the lower bound
_REPEATS_EQUAL = 1e-4  # relative; what a service computes in another order may differ that much


@dataclass(frozen=True)
class DetectedDefense:
    """What was seen of a defence; all ``None`` where nothing was.

    Attributes:
        kept: entries kept per vector (top-k).
        by: which entries those are: the largest values (or not to be told), or the largest magnitudes.
        floor: least value that dropped entries can have had; 0 where vectors never are negative, if that shows.
        decimals: places after the point that entries are rounded to.
        unit: the rounded vectors were brought to length 1 first.
        repeat_noise: length of the noise that each answer has of its own, over the length of the vector.
    """

    kept: int | None = None
    by: Literal["signed", "magnitude"] | None = None
    floor: float | None = None
    decimals: int | None = None
    unit: bool = False
    repeat_noise: float | None = None

    @property
    def seen(self) -> bool:
        """Whether anything was."""
        return any(found is not None for found in (self.kept, self.decimals, self.repeat_noise))

    def repeats(self, left: float) -> int:
        """Answers per input whose mean has noise of at most ``left`` of the vector's length; 1 without noise per query."""
        if self.repeat_noise is None:
            return 1
        return max(1, math.ceil((self.repeat_noise / left) ** 2))

    def __str__(self) -> str:
        said = []
        if self.kept is not None:
            said.append(
                f"only the {self.kept} largest {'magnitudes' if self.by == 'magnitude' else 'values'} are kept"
            )
        if self.decimals is not None:
            of = "entries of the unit vector" if self.unit else "entries"
            said.append(f"{of} are rounded to {self.decimals} decimals")
        if self.repeat_noise is not None:
            said.append(f"each answer has noise of its own, of {self.repeat_noise:.2g} times the vector")
        return "; ".join(said) or "none seen"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of n undefended vectors of width d, entry by entry, in units of what was returned. All float32 but ``known``.

    Attributes:
        values: (n, d) as returned.
        low, high: (n, d) bounds of every entry before the defence; equal where it is exact, infinite where unbounded.
        known: (n, d) bool, entries whose value was returned, exactly or rounded.
        lengths: (n,) length of the vector before the defence over its known entries, by which the scale of a student that
            only learns directions is set.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    known: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


def detect_defense(vectors: np.ndarray, repeated: np.ndarray | None = None) -> DetectedDefense:
    """What ``vectors`` (n, d), answers to n different inputs, show of a defence.

    Args:
        repeated: (n, d) second answers to the same inputs. Without them noise drawn per query is not looked for; noise
            and poisoning drawn once per input are the same in both and cannot be seen.

    A handful of vectors is enough for a grid, about ten for top-k. Vectors that are whole numbers by nature look rounded,
    and a network that itself keeps a fixed number of entries looks like top-k; both are treated alike and rightly so.

    Raises:
        InputError: shapes that do not fit.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2:
        raise InputError(f"expected returned vectors of shape (n, d), but got shape {vectors.shape}.")
    if repeated is not None and np.shape(repeated) != vectors.shape:
        raise InputError(
            f"expected second answers of shape {vectors.shape} like the first, but got {np.shape(repeated)}."
        )
    kept = _kept(vectors)
    by, floor = (None, None) if kept is None else _kind_of_top(vectors, kept)
    decimals = _decimals(vectors)
    return DetectedDefense(
        kept=kept,
        by=by,
        floor=floor,
        decimals=decimals,
        unit=decimals is not None and _was_unit(vectors, decimals),
        repeat_noise=None if repeated is None else _repeat_noise(vectors, np.asarray(repeated, np.float64)),
    )


def evidence(vectors: np.ndarray, detected: DetectedDefense) -> Evidence:
    """What ``vectors`` (n, d) say about the vectors behind ``detected``.

    Entries that top-k dropped are at most the smallest magnitude that it kept, whichever entries it keeps, and at least its
    negative if it keeps magnitudes; rounded ones lie within half a step. Noise is not in the bounds: average the answers first (:meth:`DetectedDefense.repeats`).
    """
    values = np.asarray(vectors, dtype=np.float32)
    exact = values.astype(np.float64)
    half_step = 0.0 if detected.decimals is None else 0.5 * 10.0**-detected.decimals
    known = np.ones(values.shape, dtype=bool) if detected.kept is None else values != 0
    low, high = exact - half_step, exact + half_step
    if detected.kept is not None:
        smallest = np.where(known, np.abs(exact), np.inf).min(axis=1, keepdims=True) + half_step
        smallest = np.where(np.isfinite(smallest), smallest, 0.0)
        least = (
            -smallest if detected.by == "magnitude" else -np.inf if detected.floor is None else detected.floor
        )
        low, high = np.where(known, low, least), np.where(known, high, smallest)
    lengths = np.ones(len(values)) if detected.unit else _lengths_before_rounding(exact, known, half_step)
    return Evidence(
        values, low.astype(np.float32), high.astype(np.float32), known, lengths.astype(np.float32)
    )


def _kept(vectors: np.ndarray) -> int | None:
    """k, if so many vectors have exactly k entries that are not zero, and none has more, that it is no accident."""
    filled = vectors != 0
    live = filled.any(axis=0)
    counts = filled.sum(axis=1)
    most = int(counts.max(initial=0))
    if not 0 < most < live.sum():
        return None
    # Were zeros independent, the number of entries would vary like this, and no one number have more than that share.
    share = filled[:, live].mean(axis=0)
    likeliest = 1 / math.sqrt(1 + 2 * math.pi * float((share * (1 - share)).sum()))
    at_most = int((counts == most).sum())
    by_chance = float(binom.sf(at_most - 1, len(vectors), likeliest))
    return most if by_chance < _BY_CHANCE and 2 * at_most > len(vectors) else None


def _kind_of_top(vectors: np.ndarray, kept: int) -> tuple[Literal["signed", "magnitude"], float | None]:
    filled = vectors != 0
    if not (vectors < 0).any():
        # Where a vector has fewer entries than were to be kept, its other entries were zero, not negative.
        return "signed", 0.0 if (filled.sum(axis=1) < kept).any() else None
    holes, signs = [], []
    for vector, entries in zip(vectors, filled):
        values = np.sort(vector[entries])
        signs.append(set(np.sign(values)))
        negative = int((values < 0).sum())
        steps = np.diff(values)
        if 0 < negative < len(values) and len(steps) > 1:
            holes.append(steps[negative - 1] > _HOLE * np.median(np.delete(steps, negative - 1)))
    if kept == 1 and {1.0} in signs and {-1.0} in signs:
        return "magnitude", None
    # Magnitudes leave a hole around zero, and mostly keep both signs; among the largest values zero is no special place.
    plain = 2 * len(holes) > len(vectors) and 2 * sum(holes) > len(holes)
    return ("magnitude" if plain else "signed"), None


def _decimals(vectors: np.ndarray) -> int | None:
    """The fewest places after the point that all entries have, if that is no accident."""
    entries = np.abs(vectors[vectors != 0])
    for decimals in range(_FINEST + 1):
        scaled = entries * 10.0**decimals
        tolerance = scaled * _FLOAT32
        if entries.size == 0 or (np.abs(scaled - np.rint(scaled)) > tolerance).any():
            continue
        by_chance = np.log(np.minimum(2 * tolerance, 1)).sum()
        return decimals if by_chance < math.log(_BY_CHANCE) else None
    return None


def _was_unit(vectors: np.ndarray, decimals: int) -> bool:
    """Whether rounding alone can explain how far the lengths are from 1."""
    furthest = 0.5 * 10.0**-decimals * math.sqrt(vectors.shape[1])
    return bool((np.abs(np.linalg.norm(vectors, axis=1) - 1) <= furthest + 1e-6).all())


def _repeat_noise(first: np.ndarray, second: np.ndarray) -> float | None:
    """rho: two answers v + r and v + r' differ by 2 rho^2 |v|^2 in the mean, and their product is |v|^2."""
    differ, product = float(np.square(first - second).sum()) / 2, float((first * second).sum())
    if differ <= _REPEATS_EQUAL**2 * float(np.square(first).sum()):
        return None
    return math.sqrt(differ / product) if product > 0 else math.inf


def _lengths_before_rounding(values: np.ndarray, known: np.ndarray, half_step: float) -> np.ndarray:
    """Rounding to steps of h adds h^2 / 12 per entry to a squared length (Sheppard), which is taken off again."""
    squared = (np.square(values) * known).sum(axis=1)
    return np.sqrt(np.maximum(squared - known.sum(axis=1) * (2 * half_step) ** 2 / 12, squared / 4))
