"""What a revealed encoder is good for: a better stolen copy, and adversarial images made without asking the service.

Source: follow-ups A and B of the paper (arXiv 2408.02814). In A the service is asked once for each surrogate image and
a head is trained on the frozen encoder; in B images are optimised until the encoder takes them for a target image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from dosimeter.core.errors import InputError
from dosimeter.core.oracle import Oracle
from dosimeter.core.progress import track
from dosimeter.core.records import as_uint8_images
from dosimeter.core.seeding import derive_seed, rng
from dosimeter.models.networks import MLP
from dosimeter.models.training import images_to_tensor
from dosimeter.targets.torch import TorchTarget

_LEAST_PROBABILITY = 1e-6


class Stealing(BaseModel):
    """Settings of follow-up A; the defaults are the published ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["hard-label", "logit-label"] = Field(
        "hard-label", description="cross-entropy on the service's label, or squared error on its logits"
    )
    steps: int = Field(10_000, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0, description="of Adam, without decay")
    hidden: int = Field(512, ge=1, description="width of the three-layer head")


@dataclass(frozen=True)
class StolenService:
    """A copy of a service: an encoder and a head trained on what the service answered.

    Attributes:
        encode: (n, 3, h, w) in 0..1 -> features.
        classes: the service's label for each output of the head.
        queries: surrogate images that the service was asked for.
    """

    encode: TorchTarget
    head: nn.Module
    classes: np.ndarray
    queries: int

    def labels(self, images: np.ndarray) -> np.ndarray:
        """(n,) labels for uint8 images (n, h, w, 3)."""
        with torch.no_grad():
            outputs = self.head(torch.from_numpy(self.encode.answer(images)))
        return self.classes[outputs.argmax(1).numpy()]

    def agreement(self, oracle: Oracle, images: np.ndarray) -> float:
        """Share of ``images`` that the copy labels like the service, in 0..1; asks the service for each."""
        return float((self.labels(images) == oracle.labels(images)).mean())


def steal_with_encoder(
    oracle: Oracle,
    surrogate: np.ndarray,
    encoder: TorchTarget,
    settings: Stealing,
    *,
    seed: int,
    permuted: bool = False,
) -> StolenService:
    """A copy of the service from a three-layer head on the frozen ``encoder``.

    Args:
        oracle: returns label or scores.
        surrogate: uint8 images (n, h, w, 3), unlabelled, each asked once.
        permuted: shuffle the answers among the images: a control that must not give a copy.

    Raises:
        InputError: one label for all surrogate images, ``logit-label`` without scores, no images.
    """
    goals, classes = _ask(oracle, surrogate, settings)
    features = torch.from_numpy(encoder.answer(as_uint8_images(surrogate)))
    if permuted:
        goals = goals[torch.from_numpy(rng(seed, "permuted-answers").permutation(len(goals)))]
    head = MLP(
        features.shape[1],
        (settings.hidden, settings.hidden),
        len(classes),
        seed=derive_seed(seed, "stolen-head"),
    )
    _train(head, features, goals, settings, seed)
    return StolenService(encode=encoder, head=head.eval(), classes=classes, queries=len(surrogate))


def steal_from_scratch(
    oracle: Oracle, surrogate: np.ndarray, network: nn.Module, settings: Stealing, *, seed: int
) -> StolenService:
    """A copy of the service from an untrained ``network`` (n, 3, h, w) in 0..1 -> features: the arm without PEI.

    The paper trains a ResNet-18 at 224 pixels. Arguments and errors as in :func:`steal_with_encoder`.
    """
    goals, classes = _ask(oracle, surrogate, settings)
    images = images_to_tensor(as_uint8_images(surrogate))
    with torch.no_grad():
        width = network.eval()(images[:1]).flatten(1).shape[1]
    head = MLP(width, (settings.hidden, settings.hidden), len(classes), seed=derive_seed(seed, "stolen-head"))
    whole = nn.Sequential(network.requires_grad_(True), nn.Flatten(), head)
    _train(whole, images, goals, settings, seed)
    encode = TorchTarget(network, name="from scratch", returns="embedding")
    return StolenService(encode=encode, head=head.eval(), classes=classes, queries=len(surrogate))


def _ask(oracle: Oracle, surrogate: np.ndarray, settings: Stealing) -> tuple[Tensor, np.ndarray]:
    """What to learn: class numbers (n,) or logits (n, c), and the service's label of each class."""
    if len(surrogate) == 0:
        raise InputError("stealing needs surrogate images, but got none.")
    if settings.loss == "hard-label":
        classes, numbers = np.unique(oracle.labels(surrogate), return_inverse=True)
        if len(classes) < 2:
            raise InputError(
                f"the service gives all {len(surrogate)} surrogate images the label {classes[0]}; a copy cannot be learned "
                "from them. Use more varied images."
            )
        return torch.from_numpy(numbers.astype(np.int64)), classes
    if oracle.returns != "scores":
        raise InputError(
            f"loss logit-label needs scores, but the service returns {oracle.returns}. Use hard-label."
        )
    logs = np.log(np.clip(np.asarray(oracle(surrogate), dtype=np.float64), _LEAST_PROBABILITY, None))
    # Softmax hides a constant per image; without it, log-probabilities are logits.
    return torch.from_numpy((logs - logs.mean(axis=1, keepdims=True)).astype(np.float32)), np.arange(
        logs.shape[1]
    )


def _train(module: nn.Module, inputs: Tensor, goals: Tensor, settings: Stealing, seed: int) -> None:
    generator = torch.Generator().manual_seed(derive_seed(seed, "stealing"))
    optimiser = torch.optim.Adam(module.parameters(), lr=settings.learning_rate)
    module.train()
    with track("training a stolen copy", settings.steps) as bar:
        for _ in range(settings.steps):
            rows = torch.randint(len(inputs), (settings.batch_size,), generator=generator)
            outputs = module(inputs[rows])
            loss = (
                F.mse_loss(outputs, goals[rows])
                if goals.is_floating_point()
                else F.cross_entropy(outputs, goals[rows])
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            bar.advance()
    module.eval()


class Mimicry(BaseModel):
    """Settings of follow-up B; the defaults are the published ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(16, ge=1, description="images to make, from different starts")
    size: int = Field(336, ge=1, description="side of the images: the encoder's native resolution")
    steps: int = Field(2000, ge=1)
    step_size: float = Field(0.01, gt=0, description="change of every pixel per step, in the 0..1 range")


def mimic(encoder: TorchTarget, target_image: np.ndarray, settings: Mimicry, *, seed: int) -> np.ndarray:
    """Noise-like images that ``encoder`` takes for ``target_image``.

    Sign descent on the mean squared distance of embeddings, ``a <- clip(a - step_size * sign(gradient))``, with the
    encoder's normalisation inside the graph.

    Args:
        target_image: (h, w, 3) uint8.

    Returns:
        (count, size, size, 3) uint8.
    """
    goal = torch.from_numpy(
        encoder.answer(as_uint8_images(np.asarray(target_image)[None], what="target image"))
    )
    generator = torch.Generator().manual_seed(derive_seed(seed, "mimicry"))
    images = torch.rand(settings.count, 3, settings.size, settings.size, generator=generator)
    with track("making adversarial images", settings.steps) as bar:
        for _ in range(settings.steps):
            images.requires_grad_(True)
            loss = (encoder.forward(images) - goal).square().mean(dim=1).sum()
            (gradient,) = torch.autograd.grad(loss, images)
            images = (images.detach() - settings.step_size * gradient.sign()).clamp(0, 1)
            bar.advance()
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
