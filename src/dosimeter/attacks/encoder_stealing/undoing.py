"""The adaptive attacker: where a defence shows in the vectors, a copy made from what it left certain (not in the paper)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dosimeter.attacks.encoder_stealing.adaptive import DetectedDefense, detect_defense, evidence
from dosimeter.attacks.encoder_stealing.interval_loss import Intervals
from dosimeter.attacks.encoder_stealing.purchase import Probe, Purchase
from dosimeter.attacks.encoder_stealing.training import StolenEncoder
from dosimeter.core.oracle import Oracle

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_stealing.campaign import Campaign

#: Further answers per input that an adaptive attacker pays for, at most.
MOST_REPEATS = 3
#: Noise per query, over the vector's length, that repeats are to bring the mean down to.
TOLERABLE_NOISE = 0.1


@dataclass(frozen=True, eq=False)
class Undone:
    """What was seen of a defence, in words, and the copy that undoes it."""

    defense: str
    copy: StolenEncoder


def adaptive_copy(campaign: Campaign, purchase: Purchase, probe: Probe) -> Undone | None:
    """A copy that undoes what shows in the vectors; ``None`` where nothing shows.

    Noise drawn per query costs up to three further answers per input.
    """
    pattern = detect_defense(purchase.vectors)
    noise = detect_defense(probe.first, probe.second).repeat_noise
    seen = DetectedDefense(
        kept=pattern.kept,
        by=pattern.by,
        floor=pattern.floor,
        decimals=pattern.decimals,
        unit=pattern.unit,
        repeat_noise=noise,
    )
    if not seen.seen:
        return None
    if noise is not None and math.isfinite(noise):
        further = min(MOST_REPEATS, seen.repeats(TOLERABLE_NOISE) - 1)
        purchase = averaged(campaign.oracle, purchase, further)
    goal = Intervals(evidence(purchase.vectors, seen))
    copy = campaign.copy_of(purchase, campaign.attack.recipe, goal=goal, label=f"adaptive: {seen}")
    return Undone(str(seen), copy)


def averaged(oracle: Oracle, purchase: Purchase, further: int) -> Purchase:
    """The mean of the answers bought and ``further`` independent ones to each input."""
    total = purchase.vectors.astype(np.float64)
    for number in range(1, further + 1):
        total += np.asarray(oracle(purchase.inputs, repeat=number), dtype=np.float64)
    return Purchase(purchase.inputs, (total / (1 + further)).astype(np.float32))
