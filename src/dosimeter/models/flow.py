"""A small text-to-image model: a text encoder's embedding steers a flow from noise to grey images.

Flow matching on straight lines: for an image x, noise z and a time t in 0..1 the network learns the velocity x - z
at (1 - t) z + t x; sampling follows the velocity from noise with Euler steps. Source: Lipman et al. 2023, "Flow
Matching for Generative Modeling", with straight (optimal transport) paths.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.core.seeding import derive_seed, rng
from dosimeter.models.networks import initial_weights


class VelocityField(nn.Module):
    """Velocity of grey images (n, 1, size, size) at times (n,) under conditions (n, condition_dim).

    Condition and time become a map that is added to the features of the image; two residual 3x3 convolutions follow.
    """

    def __init__(self, size: int, condition_dim: int, *, channels: int = 32, seed: int) -> None:
        super().__init__()
        self.size, self.condition_dim = size, condition_dim
        with initial_weights(seed, "velocity-field"):
            self.steer = nn.Sequential(
                nn.Linear(condition_dim + 1, 128), nn.SiLU(), nn.Linear(128, channels * size * size)
            )
            self.first = nn.Conv2d(1, channels, 3, padding=1)
            self.middle = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
            self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        steering = self.steer(torch.cat([condition, t[:, None]], dim=1))
        hidden = self.first(x) + steering.unflatten(1, (-1, self.size, self.size))
        for convolution in self.middle:
            hidden = hidden + convolution(torch.relu(hidden))
        return self.last(torch.relu(hidden))


def fit_flow(
    field: VelocityField,
    images: Tensor,
    conditions: Tensor,
    *,
    steps: int,
    batch_size: int = 128,
    lr: float = 2e-3,
    seed: int,
) -> list[float]:
    """Train ``field`` in place with Adam to carry noise to ``images``.

    Args:
        images: (n, 1, size, size) float in -1..1.
        conditions: (n, condition_dim) float; row i steers to image i.

    Returns:
        The loss (mean squared error of the velocity) of each step.

    Raises:
        InputError: no images, or not as many conditions.
    """
    if len(images) == 0 or len(images) != len(conditions):
        raise InputError(
            f"expected as many conditions as images, and some, but got {len(images)} images and {len(conditions)} conditions."
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "fit-flow"))
    optimizer = torch.optim.Adam(field.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    field.train()
    losses = []
    with track("training a text-to-image model", steps) as bar:
        for _ in range(steps):
            rows = torch.randint(len(images), (batch_size,), generator=generator)
            clean = images[rows]
            noise = torch.randn(clean.shape, generator=generator)
            t = torch.rand(len(rows), generator=generator)
            mixed = torch.lerp(noise, clean, t[:, None, None, None])
            loss = (field(mixed, t, conditions[rows]) - (clean - noise)).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            bar.advance()
    field.eval()
    return losses


@torch.no_grad()
def sample_flow(field: VelocityField, noise: Tensor, conditions: Tensor, *, steps: int = 8) -> Tensor:
    """(n, 1, size, size) float in -1..1: where ``noise`` of that shape is carried under ``conditions`` (n, condition_dim)."""
    images = noise
    for step in range(steps):
        t = torch.full((len(noise),), step / steps)
        images = images + field(images, t, conditions) / steps
    return images.clamp(-1, 1)


class TextToImage:
    """A text-to-image service: prompts -> (n, k, size, size, 3) uint8 images.

    Each prompt is drawn on its own, from noise that depends on the seed and the prompt alone: an answer is the same to
    the bit in whatever company it is asked for.

    Args:
        encode: n texts -> (n, condition_dim) float conditions.
        images_per_prompt: k.
        steps: Euler steps from noise to image.
    """

    def __init__(
        self,
        field: VelocityField,
        encode: Callable[[list[str]], np.ndarray],
        *,
        images_per_prompt: int = 4,
        steps: int = 8,
        seed: int = 0,
    ) -> None:
        self.field, self.encode = field, encode
        self.images_per_prompt, self.steps, self.seed = images_per_prompt, steps, seed

    def __call__(self, prompts: list[str]) -> np.ndarray:
        return np.stack([self._draw(prompt) for prompt in prompts])

    def _draw(self, prompt: str) -> np.ndarray:
        shape = (self.images_per_prompt, 1, self.field.size, self.field.size)
        noise = rng(self.seed, "noise", prompt).standard_normal(shape, dtype=np.float32)
        condition = torch.from_numpy(np.asarray(self.encode([prompt]), dtype=np.float32))
        images = sample_flow(
            self.field, torch.from_numpy(noise), condition.expand(len(noise), -1), steps=self.steps
        )
        grey = images.add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        return np.repeat(grey.numpy(), 3, axis=-1)
