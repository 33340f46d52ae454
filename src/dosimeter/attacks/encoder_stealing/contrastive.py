"""Baselines that ask for several views of every image: Cont-Steal and RDA. What they cost is what StolenEncoder saves.

Sources: Cont-Steal (Sha et al., CVPR 2023; InfoNCE with temperature 0.07) and RDA (Wu et al., 2023: prototypes of
several random patches, contrast, and alignment of length and angle), as described in the specification of StolenEncoder.
Views are bought once and kept, or the target would be asked anew for every view and epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dosimeter.attacks.encoder_stealing.purchase import buy
from dosimeter.attacks.encoder_stealing.training import (
    Recipe,
    StolenEncoder,
    batches,
    optimizer_of,
    wrong_width,
)
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.errors import InputError
from dosimeter.core.oracle import Oracle
from dosimeter.core.progress import track
from dosimeter.data.images import resize
from dosimeter.models.networks import initial_weights

TEMPERATURE = 0.07


@dataclass(frozen=True, eq=False)
class BoughtViews:
    """``vectors`` (n, m, d): what the service said to m random views of each of n images, whose rows are ``rows``."""

    rows: Tensor
    vectors: Tensor

    @property
    def queries(self) -> int:
        """Calls that were paid for."""
        return self.vectors.shape[0] * self.vectors.shape[1]


def buy_views(
    oracle: Oracle, images: np.ndarray, views: ImageViews, *, per_image: int, seed: int
) -> BoughtViews:
    """Ask for ``per_image`` random views of every image: n * per_image queries.

    Args:
        images: (n, h, w, 3) uint8.
    """
    rows = views.rows(images)
    with initial_weights(seed, "bought-views"):
        made = torch.stack([views.augmented(rows) for _ in range(per_image)], dim=1)
    sent = (made.flatten(0, 1).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    # At the size that the service is asked with, whatever size the surrogate takes.
    height, width = images.shape[1:3]
    bought = buy(oracle, resize(np.ascontiguousarray(sent), (height, width)))
    return BoughtViews(
        rows, torch.from_numpy(bought.vectors).view(len(images), per_image, bought.vectors.shape[1])
    )


def contrastive_steal(
    bought: BoughtViews,
    surrogate: nn.Module,
    views: ImageViews,
    recipe: Recipe,
    *,
    seed: int,
    prototypes: bool = False,
) -> StolenEncoder:
    """Train ``surrogate`` in place by contrast.

    The positive of the student's vector of a view is the target's vector of another view of the same image
    (``prototypes``: the mean over all bought views), its negatives are the target's and the student's vectors of the other images
    of the batch. With ``prototypes`` (RDA), length and angle are aligned as well.

    Args:
        recipe: optimizer, steps and batch size; weights of views have no meaning here.

    Raises:
        InputError: a surrogate of another width, or a loss that stops being finite.
    """
    n, per_image, _ = bought.vectors.shape
    steps = recipe.total_steps(n)
    optimizer = optimizer_of(surrogate, recipe)
    surrogate.train().requires_grad_(True)
    total = torch.zeros(())
    with track("training by contrast", steps) as bar, initial_weights(seed, "contrastive-stealing"):
        for _, picked in zip(range(steps), batches(n, recipe.batch_size)):
            student = surrogate(views.augmented(bought.rows[picked])).flatten(1)
            if prototypes:
                sold = bought.vectors[picked].mean(1)
            else:
                sold = bought.vectors[picked, torch.randint(per_image, (len(picked),))]
            if student.shape[1] != sold.shape[1]:
                raise wrong_width(student.shape[1], sold.shape[1])
            loss = info_nce(student, sold)
            if prototypes:
                loss = loss + _alignment(student, sold)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            bar.advance()
    if not bool(total.isfinite()):
        raise InputError(
            f"training by contrast diverged with learning rate {recipe.learning_rate:g}. Choose a smaller one."
        )
    return StolenEncoder(
        surrogate.eval(),
        views,
        (float(total) / steps,),
        queries=bought.queries,
        input_passes=steps * min(recipe.batch_size, n),
    )


def info_nce(student: Tensor, sold: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE of (b, d) against (b, d): row i of ``sold`` is the positive of row i, all other rows of both are negatives."""
    student, sold = F.normalize(student, dim=1), F.normalize(sold, dim=1)
    across = student @ sold.T / temperature
    within = (student @ student.T / temperature).masked_fill(
        torch.eye(len(student), dtype=torch.bool), -math.inf
    )
    return F.cross_entropy(torch.cat([across, within], dim=1), torch.arange(len(student)))


def _alignment(student: Tensor, sold: Tensor) -> Tensor:
    """RDA: relative difference of lengths, and angle as a share of pi."""
    lengths = student.norm(dim=1), sold.norm(dim=1)
    amplitude = ((lengths[0] - lengths[1]) / lengths[1].clamp_min(1e-6)).square().mean()
    cosines = F.cosine_similarity(student, sold).clamp(-1 + 1e-6, 1 - 1e-6)
    return amplitude + (torch.acos(cosines) / math.pi).mean()
