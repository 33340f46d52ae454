"""Attack images: inputs whose embedding under one candidate is that of an objective image.

Two ways to lower ``L(a) = mean((f(a) - f(x))**2)`` over embedding coordinates, both for all objectives and copies at
once: zeroth-order descent with query access only (the paper's), and Adam on the pixels where gradients are allowed.
Images live on a small canvas; the encoder's own pre-processing resizes them. Shapes: m objectives, k copies,
S canvas side, d embedding dimensions, D = 3 * S * S pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dosimeter.core.errors import TargetError
from dosimeter.core.progress import Track

Embed = Callable[[Tensor], Tensor]
"""(n, 3, S, S) float32 in 0..1 -> (n, d) float32."""

# Images in one backward pass, which keeps the activations of all layers.
_IMAGES_A_BACKWARD = 32


class ZerothOrder(BaseModel):
    """Settings of the paper's search: query access only (v2 defaults of the released code)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["zeroth-order"] = "zeroth-order"
    canvas: int = Field(64, ge=4, le=1024, description="side of the attack image in pixels")
    steps: int = Field(100, ge=0, description="updates; 0 leaves the random start")
    directions: int = Field(100, ge=1, description="random directions per update, two probes each")
    epsilon: float = Field(5.0, gt=0, description="length (L2) of a probe's step from the image")
    learning_rate: float = Field(0.1, gt=0, description="largest change of a pixel in one update")

    def queries_per_sample(self) -> int:
        """Forward passes of the candidate for one attack image: two probes per direction and update."""
        return 2 * self.directions * self.steps


class Gradient(BaseModel):
    """Settings of the search with gradients: Adam on the pixels, for candidates whose weights are at hand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["gradient"] = "gradient"
    canvas: int = Field(64, ge=4, le=1024, description="side of the attack image in pixels")
    steps: int = Field(150, ge=0, description="updates; 0 leaves the random start")
    learning_rate: float = Field(0.05, gt=0, description="of Adam, in units of the 0..1 pixel range")

    def queries_per_sample(self) -> int:
        """Forward passes of the candidate for one attack image, each with its backward pass: one per update."""
        return self.steps


@dataclass(frozen=True)
class Synthesis:
    """Attack images and how good they are.

    Attributes:
        images: (m, k, S, S, 3) uint8.
        losses: (m, k) loss of the 8-bit images.
        start_losses: (m, k) loss of the random starts, 8-bit too.
        queries: forward passes of the candidate per image.
    """

    images: np.ndarray
    losses: np.ndarray
    start_losses: np.ndarray
    queries: int


def random_starts(m: int, k: int, canvas: int, generator: torch.Generator) -> Tensor:
    """(m * k, 3, S, S) uniform noise in 0..1; the same for every candidate under the same seed."""
    return torch.rand(m * k, 3, canvas, canvas, generator=generator)


def synthesise(
    embed: Embed,
    objectives: Tensor,
    copies: int,
    settings: ZerothOrder | Gradient,
    *,
    seed: int,
    bar: Track | None = None,
    at_once: int = 128,
) -> Synthesis:
    """Attack images for ``objectives`` (m, d), ``copies`` each, from random starts drawn with ``seed``.

    ``embed`` must be differentiable for :class:`Gradient`. Everything is computed on the device of ``objectives``; what
    is drawn does not depend on it. Time is ``m * copies * queries_per_sample`` forward passes.

    Args:
        at_once: images in one call of ``embed``, apart from gradients. The default keeps small canvases in the
            processor's cache (2048 takes twice as long); a remote encoder is kept busy by more.

    Raises:
        TargetError: ``embed`` gives NaN or infinity.
    """
    generator = torch.Generator().manual_seed(seed)
    goals = objectives.repeat_interleave(copies, dim=0)
    images = random_starts(len(objectives), copies, settings.canvas, generator).to(goals.device)
    start_losses = _losses(embed, _to_8_bit_(images.clone()), goals, at_once)
    if isinstance(settings, ZerothOrder):
        images = _descend_zeroth_order(embed, images, goals, settings, generator, bar, at_once)
    else:
        images = _descend_gradient(embed, images, goals, settings, bar)
    images = _to_8_bit_(images)
    losses = _losses(embed, images, goals, at_once)
    if not (start_losses.isfinite().all() and losses.isfinite().all()):
        raise TargetError("a candidate gave embeddings with NaN or infinity for attack images.")
    shape = (len(objectives), copies)
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return Synthesis(
        images=pixels.reshape(*shape, settings.canvas, settings.canvas, 3),
        losses=losses.reshape(shape).cpu().numpy(),
        start_losses=start_losses.reshape(shape).cpu().numpy(),
        queries=settings.queries_per_sample(),
    )


def _to_8_bit_(images: Tensor) -> Tensor:
    """``images``, changed to what is left after ``uint8(255 * clip(images))``, still as floats in 0..1."""
    return images.clamp_(0, 1).mul_(255).floor_().div_(255)


def _losses(embed: Embed, images: Tensor, goals: Tensor, at_once: int) -> Tensor:
    """(n,) mean squared distance of the embeddings of ``images`` to ``goals``."""
    parts = zip(images.split(at_once), goals.split(at_once))
    with torch.no_grad():
        return torch.cat([(embed(part) - goal).square().mean(dim=1) for part, goal in parts])


def _descend_zeroth_order(
    embed: Embed,
    images: Tensor,
    goals: Tensor,
    settings: ZerothOrder,
    generator: torch.Generator,
    bar: Track | None,
    at_once: int,
) -> Tensor:
    """Gradient estimate from symmetric probes along random directions that all images share in a step."""
    shape = images.shape[1:]
    for _ in range(settings.steps):
        directions = torch.rand(settings.directions, *shape, generator=generator).to(images.device) - 0.5
        directions /= directions.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        differences = _probe_differences(embed, images, goals, settings.epsilon * directions, at_once)
        estimate = torch.einsum("nq,qchw->nchw", differences, directions)
        largest = estimate.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        images = (images - settings.learning_rate * estimate / largest).clamp(0, 1)
        if bar is not None:
            bar.advance()
    return images


def _probe_differences(embed: Embed, images: Tensor, goals: Tensor, offsets: Tensor, at_once: int) -> Tensor:
    """(n, q): loss at image + offset minus loss at image - offset, every probe rounded to 8 bits."""
    both = torch.cat([offsets, -offsets])
    images_at_once = max(1, at_once // len(both))
    # One buffer for all probes: fresh memory for every batch costs more than what is computed in it.
    buffer = images.new_empty(min(images_at_once, len(images)), min(at_once, len(both)), *images.shape[1:])
    differences = []
    for part, goal in zip(images.split(images_at_once), goals.split(images_at_once)):
        losses = []
        for offset in both.split(at_once):
            probes = torch.add(part[:, None], offset, out=buffer[: len(part), : len(offset)])
            goal_of_each = goal.repeat_interleave(len(offset), dim=0)
            found = _losses(embed, _to_8_bit_(probes).flatten(0, 1), goal_of_each, at_once)
            losses.append(found.reshape(len(part), -1))
        plus, minus = torch.cat(losses, dim=1).chunk(2, dim=1)
        differences.append(plus - minus)
    return torch.cat(differences)


def _descend_gradient(
    embed: Embed, images: Tensor, goals: Tensor, settings: Gradient, bar: Track | None
) -> Tensor:
    """Adam on the pixels, clipped to 0..1 after each update."""
    pixels = images.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([pixels], lr=settings.learning_rate)
    for _ in range(settings.steps):
        optimiser.zero_grad()
        for part, goal in zip(pixels.split(_IMAGES_A_BACKWARD), goals.split(_IMAGES_A_BACKWARD)):
            # The sum over images keeps each image's gradient what it would be alone.
            (embed(part) - goal).square().mean(dim=1).sum().backward()
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if bar is not None:
            bar.advance()
    return pixels.detach()
