"""Trains a surrogate until it says what the service sold.

Source: StolenEncoder, arXiv 2201.05889, section 4 and the released launchers (lambda 20, one augmented view, SGD,
100 epochs; the defaults of the released argument parser are stale). Deviations, all settings: losses are means
(``losses``); raw and augmented inputs share one forward pass, so batch norm sees both, unless ``separate_batches``; a
last batch that is not full is left out only if there is a full one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from dosimeter.attacks.encoder_stealing.losses import (
    Directions,
    Distance,
    Goal,
    relational_distance,
    stealing_loss,
)
from dosimeter.attacks.encoder_stealing.purchase import Purchase, unit_rows
from dosimeter.attacks.encoder_stealing.views import Views
from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.core.records import Batch
from dosimeter.models.networks import initial_weights
from dosimeter.models.training import embed
from dosimeter.targets.torch import state_hash


class Recipe(BaseModel):
    """How a surrogate is trained; the defaults are the published ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    augmentation_weight: float = Field(
        20.0, ge=0, description="lambda, the weight of augmented views; 0 is the no-augmentation baseline"
    )
    views: int = Field(1, ge=1, description="k, augmented views per input and step")
    distance: Distance = Field("euclidean", description="between unit vectors; euclidean is not squared")
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(
        0.064, gt=0, description="for losses that are means; 64 times the published 1e-3 for sums of 64"
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the learning rate; cosine lets it fall to zero"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(5e-4, ge=0)
    batch_size: int = Field(64, ge=2, description="inputs per step, before views")
    epochs: int = Field(100, ge=1, description="passes over what was bought")
    steps: int | None = Field(
        None,
        ge=1,
        description="updates in all, for equal compute at every number of queries; in place of epochs",
    )
    separate_batches: bool = Field(
        False,
        description="raw and augmented inputs in two forward passes, each with its own batch statistics",
    )
    relational_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the relational term, which keeps apart what cosines cannot (not in the paper)",
    )

    def total_steps(self, n: int) -> int:
        """Updates when ``n`` inputs were bought."""
        batch = min(self.batch_size, n)
        return self.steps or self.epochs * max(1, n // batch)


@dataclass(frozen=True, eq=False)
class StolenEncoder:
    """A surrogate after training, its linear head included where the widths did not match.

    Attributes:
        module: what ``views`` give for plain inputs -> (n, d).
        losses: mean training loss of each tenth of the training.
        queries: inputs that were bought for it; 0 for a baseline that asks nothing.
        input_passes: inputs that went forward and backward, views included: what equal compute is measured in.
    """

    module: nn.Module
    views: Views
    losses: tuple[float, ...] = ()
    queries: int = 0
    input_passes: int = field(default=0)

    def embed(self, batch: Batch) -> np.ndarray:
        """(n, d) float32 unit vectors of ``batch``."""
        vectors = embed(_Plain(self.module, self.views).eval(), self.views.rows(batch))
        return unit_rows(vectors.numpy())

    @cached_property
    def digest(self) -> str:
        """Content hash of structure and weights: equal for copies that are equal bit for bit."""
        return state_hash(self.module)


class _Plain(nn.Module):
    def __init__(self, module: nn.Module, views: Views) -> None:
        super().__init__()
        self.module, self._views = module, views

    def forward(self, rows: Tensor) -> Tensor:
        return self.module(self._views.plain(rows))


def steal(
    purchase: Purchase,
    surrogate: nn.Module,
    views: Views,
    recipe: Recipe,
    *,
    seed: int,
    goal: Goal | None = None,
    task: str = "training a stolen encoder",
) -> StolenEncoder:
    """Train ``surrogate`` in place on what was bought.

    Args:
        purchase: inputs and vectors.
        surrogate: as wide as the vectors; see ``surrogates.matched``.
        goal: what the student is compared with; the directions of the vectors under the recipe's distance if not given.
        seed: fixes order and views.
        task: what progress calls it.

    Raises:
        InputError: a surrogate of another width, or a loss that stops being finite.
    """
    unit = torch.from_numpy(purchase.unit)
    goal = goal or Directions(unit, recipe.distance)
    rows = views.rows(purchase.inputs)
    n, steps = len(rows), recipe.total_steps(len(rows))
    copies = recipe.views if recipe.augmentation_weight > 0 else 0
    optimizer = optimizer_of(surrogate, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)) if recipe.schedule == "cosine" else 1.0,
    )
    losses: list[float] = []
    total, counted, passes = torch.zeros(()), 0, 0
    surrogate.train().requires_grad_(True)
    report_every = max(1, steps // 10)
    with track(task, steps) as bar, initial_weights(seed, "stealing"):
        for step, picked in zip(range(1, steps + 1), batches(n, recipe.batch_size)):
            batch = rows[picked]
            outputs = _forward(surrogate, views, batch, copies, recipe.separate_batches)
            if outputs.shape[1] != unit.shape[1]:
                raise wrong_width(outputs.shape[1], unit.shape[1])
            loss = stealing_loss(
                goal.distances(outputs, picked.repeat(1 + copies)), copies, recipe.augmentation_weight
            )
            if recipe.relational_weight:
                loss = loss + recipe.relational_weight * relational_distance(
                    outputs[: len(picked)], unit[picked]
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total, counted, passes = total + loss.detach(), counted + 1, passes + len(outputs)
            bar.advance()
            if step % report_every == 0 or step == steps:
                losses.append(float(total) / counted)
                total, counted = torch.zeros(()), 0
                if not math.isfinite(losses[-1]):
                    raise InputError(
                        f"{task} diverged by step {step} with learning rate {recipe.learning_rate:g}. Choose a smaller one."
                    )
    return StolenEncoder(surrogate.eval(), views, tuple(losses), queries=n, input_passes=passes)


def wrong_width(given: int, needed: int) -> InputError:
    """The error for a surrogate whose vectors are not as long as the service's."""
    return InputError(
        f"the surrogate gives vectors of length {given}, the service of length {needed}. "
        "Give it a head of that width with surrogates.matched."
    )


def batches(n: int, batch_size: int) -> Iterator[Tensor]:
    """Endless random batches of 0..n-1, every row once per pass but for those that fill no batch.

    Where there are fewer rows than a batch, the batch is all of them: dropping it would train on nothing.
    """
    size = min(batch_size, n)
    while True:
        order = torch.randperm(n)
        yield from order[: n - n % size].split(size)


def _forward(surrogate: nn.Module, views: Views, batch: Tensor, copies: int, separate: bool) -> Tensor:
    """(b * (1 + copies), d): plain rows first, then one block per view."""
    parts = [views.plain(batch)]
    if copies:
        parts.append(views.augmented(batch.repeat(copies, *[1] * (batch.ndim - 1))))
    if separate:
        return torch.cat([surrogate(part).flatten(1) for part in parts])
    return surrogate(torch.cat(parts)).flatten(1)


def optimizer_of(surrogate: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer that ``recipe`` names, over all weights of ``surrogate``."""
    if recipe.optimizer == "adam":
        return torch.optim.AdamW(
            surrogate.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
    return torch.optim.SGD(
        surrogate.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
