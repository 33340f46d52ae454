"""Trains on what a defence left certain: how far a student's vector is from the box that the true one lies in.

Where nothing was defended the box is a point, and the distance is that of the paper (StolenEncoder, arXiv 2201.05889,
Euclidean, between unit vectors); the rest is beyond it. The boxes come from ``adaptive``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dosimeter.attacks.encoder_stealing.adaptive import Evidence

_UNDER_ROOT = 1e-12  # the Euclidean distance has no gradient at zero
_TINY = 1e-12


def interval_distance(outputs: Tensor, low: Tensor, high: Tensor, known: Tensor, lengths: Tensor) -> Tensor:
    """(n,) Euclidean distances of ``outputs`` (n, d) from boxes, in units of ``lengths``; 0 anywhere inside.

    A student learns a direction, while bounds are in the units of the returned vectors. Each output is therefore scaled to
    have the length over known entries that the true vector has; the scale is positive whatever the output, so a student
    that points the wrong way is turned round.

    Args:
        low, high: (n, d) bounds, infinite where there is none.
        known: (n, d) bool, entries that set the scale.
        lengths: (n,) length of the true vectors over those; 0 where nothing is known.
    """
    norms = (outputs.square() * known).sum(1).clamp_min(_TINY).sqrt()
    scaled = outputs * (lengths / norms).unsqueeze(1)
    outside = (low - scaled).clamp_min(0) + (scaled - high).clamp_min(0)
    return (outside.square().sum(1) + _UNDER_ROOT).sqrt() / torch.where(lengths > 0, lengths, 1)


class Intervals:
    """The adaptive attacker's goal (a ``losses.Goal``): to lie within what is certain about every vector."""

    def __init__(self, evidence: Evidence) -> None:
        self.low, self.high = torch.from_numpy(evidence.low), torch.from_numpy(evidence.high)
        self.known, self.lengths = torch.from_numpy(evidence.known), torch.from_numpy(evidence.lengths)

    def distances(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """(b,) distances of the student's raw ``outputs`` (b, d) from what is known of the inputs at ``rows`` (b,)."""
        return interval_distance(
            outputs, self.low[rows], self.high[rows], self.known[rows], self.lengths[rows]
        )
