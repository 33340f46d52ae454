"""SimCLR: an encoder from unlabelled inputs alone (Chen et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.models.networks import initial_weights


def contrastive_loss(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    """NT-Xent, equation 1 of the paper: row i of ``first`` (n, d) and row i of ``second`` (n, d) are two views of one
    input, all other 2n - 2 rows are negatives. Mean over the 2n rows."""
    vectors = F.normalize(torch.cat([first, second]), dim=1)
    n = len(first)
    cosines = vectors @ vectors.T / temperature
    cosines = cosines.masked_fill(torch.eye(2 * n, dtype=torch.bool), -math.inf)
    partner = torch.arange(2 * n).roll(n)
    return F.cross_entropy(cosines, partner)


def fit_simclr(
    encoder: nn.Module,
    rows: Tensor,
    augmented: Callable[[Tensor], Tensor],
    *,
    width: int,
    steps: int,
    batch_size: int = 128,
    temperature: float = 0.5,
    lr: float = 1e-3,
    projection: int = 64,
    seed: int,
    task: str = "training an encoder without labels",
) -> nn.Module:
    """Train ``encoder`` in place; the projection head on top of it is thrown away, as in the paper.

    Args:
        rows: (n, ...) inputs.
        augmented: rows -> random views of them, as the encoder takes them; draws from torch's generator.
        width: length of the encoder's vectors.
        steps: updates (Adam, cosine schedule), each on two views of ``batch_size`` inputs.

    Raises:
        InputError: fewer than two inputs, which leave no negative, or a loss that stops being finite.
    """
    if len(rows) < 2:
        raise InputError(f"contrastive training needs at least 2 inputs, but got {len(rows)}.")
    with initial_weights(seed, "simclr-head"):
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=lr, weight_decay=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    encoder.train()
    with track(task, steps) as bar, initial_weights(seed, "simclr"):
        for _ in range(steps):
            picked = rows[torch.randint(len(rows), (min(batch_size, len(rows)),))]
            outputs = head(encoder(torch.cat([augmented(picked), augmented(picked)])).flatten(1))
            loss = contrastive_loss(*outputs.chunk(2), temperature)
            if not bool(loss.isfinite()):
                raise InputError(f"{task} diverged with lr {lr:g}. Choose a smaller lr.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.advance()
    return encoder.eval()
