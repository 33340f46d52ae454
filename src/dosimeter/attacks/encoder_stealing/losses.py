"""How far a student's vectors are from what the service sold, per input and without a loop over inputs.

Source: StolenEncoder, arXiv 2201.05889, equations 1 to 4. The released code *sums* distances over a batch; here every
loss is a mean, so its learning rate of 1e-3 at batches of 64 is 0.064 here.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Distance = Literal["euclidean", "l1", "cosine"]

_UNDER_ROOT = 1e-12  # the Euclidean distance has no gradient at zero


class Goal(Protocol):
    """What a student is to say to the inputs that were bought."""

    def distances(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """(b,) distances of the student's raw ``outputs`` (b, d) from what was sold for the inputs at ``rows`` (b,)."""


def unit_distance(outputs: Tensor, vectors: Tensor, distance: Distance = "euclidean") -> Tensor:
    """(n,) distances between the directions of ``outputs`` (n, d) and unit ``vectors`` (n, d).

    ``euclidean`` is not squared (0..2), ``l1`` is the sum over coordinates, ``cosine`` is minus the cosine (-1..1).
    """
    directions = F.normalize(outputs, dim=1)
    if distance == "cosine":
        return -(directions * vectors).sum(1)
    difference = directions - vectors
    if distance == "l1":
        return difference.abs().sum(1)
    return (difference.square().sum(1) + _UNDER_ROOT).sqrt()


class Directions:
    """The paper's goal: the directions of the returned vectors, (n, d) float32 of unit length."""

    def __init__(self, unit: Tensor, distance: Distance = "euclidean") -> None:
        self.unit, self.distance = unit, distance

    def distances(self, outputs: Tensor, rows: Tensor) -> Tensor:
        return unit_distance(outputs, self.unit[rows], self.distance)


class RawVectors:
    """The conventional attack's goal: mean squared error on the vectors (n, d) as they were returned."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def distances(self, outputs: Tensor, rows: Tensor) -> Tensor:
        return (outputs - self.vectors[rows]).square().mean(1)


def relational_distance(outputs: Tensor, unit: Tensor) -> Tensor:
    """Mean squared difference between the two matrices of cosines within a batch, after removing its mean vector.

    Where all vectors point the same way a student can look right and tell nothing apart; centred cosines see that
    (beyond the paper; relational distillation, Park et al. 2019).
    """
    mine, theirs = (F.normalize(x - x.mean(0), dim=1) for x in (F.normalize(outputs, dim=1), unit))
    return (mine @ mine.T - theirs @ theirs.T).square().mean()


def stealing_loss(distances: Tensor, copies: int, augmentation_weight: float) -> Tensor:
    """``L1 + lambda L2``: plain inputs first in ``distances``, then ``copies`` augmented views of each, view by view.

    Args:
        distances: (b * (1 + copies),).
        augmentation_weight: the paper's lambda.
    """
    plain, augmented = distances.view(1 + copies, -1).tensor_split([1])
    return plain.mean() + (augmentation_weight * augmented.mean() if copies else torch.zeros(()))
