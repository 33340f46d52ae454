"""Encoders that differ only in their random weights, and services on them: made in milliseconds, told apart by PEI."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.objectives import image_objectives
from dosimeter.core.records import Batch
from dosimeter.core.target import CallableTarget, Target
from dosimeter.models.networks import SmallConvNet
from dosimeter.targets.torch import Preprocessing, TorchTarget

SIZE = 16
DIMENSIONS = 16
CLASSES = 8
PREPROCESSING = Preprocessing(size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)


def image_encoder(seed: int) -> nn.Module:
    return SmallConvNet((8, 16), DIMENSIONS, SIZE, seed=seed)


def image_candidate(seed: int, **settings: Any) -> Candidate:
    target = TorchTarget(
        image_encoder(seed), name=f"encoder {seed}", returns="embedding", preprocessing=PREPROCESSING
    )
    return Candidate(f"encoder-{seed}", target, **settings)


def image_candidates(n: int = 6) -> tuple[Candidate, ...]:
    return tuple(image_candidate(seed) for seed in range(n))


class LinearHead(nn.Module):
    """A random linear head on the standardised embeddings of ``encoder``."""

    def __init__(self, encoder: nn.Module, *, seed: int) -> None:
        super().__init__()
        self.encoder = encoder.eval()
        images = torch.from_numpy(image_objectives(30, SIZE, 99)).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            embeddings = self.encoder(PREPROCESSING(images))
        self.register_buffer("centre", embeddings.mean(0))
        self.register_buffer("scale", embeddings.std(0) + 1e-6)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weights", torch.randn(embeddings.shape[1], CLASSES, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return (self.encoder(x) - self.centre) / self.scale @ self.weights


def image_service(encoder_seed: int, *, head_seed: int = 0, returns: Any = "label") -> TorchTarget:
    """A service on ``image_encoder(encoder_seed)``."""
    return TorchTarget(
        LinearHead(image_encoder(encoder_seed), seed=head_seed),
        name=f"service on {encoder_seed}",
        returns=returns,
        preprocessing=PREPROCESSING,
    )


class CharacterFeatures:
    """n texts -> (n, 12): bounded random features of characters at their places."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng([seed, 7])
        self._table = generator.normal(size=(16, 128, 24))
        self._mix = generator.normal(size=(24, 12)) / 24**0.5
        self.asked = 0

    def __call__(self, texts: Batch) -> np.ndarray:
        self.asked += len(texts)
        longest = max(1, *map(len, texts))
        codes = np.array([[min(ord(letter), 127) for letter in text.ljust(longest, "\0")] for text in texts])
        features = self._table[np.arange(longest) % 16, codes] * (codes > 0)[:, :, None]
        return np.tanh(features.sum(axis=1) / 3) @ self._mix


def text_candidate(seed: int) -> Candidate:
    target = CallableTarget(
        CharacterFeatures(seed),
        modality="text",
        returns="embedding",
        batch_size=4096,
        fingerprint=f"text {seed}",
    )
    return Candidate(f"text-{seed}", target)


def text_service(encoder_seed: int, *, seed: int = 0) -> Target:
    embed = CharacterFeatures(encoder_seed)
    weights = np.random.default_rng([seed, 11]).normal(size=(12, 6))

    def answer(texts: Batch) -> np.ndarray:
        return (embed(texts) @ weights).argmax(axis=1)

    return CallableTarget(
        answer, modality="text", returns="label", fingerprint=f"text service {encoder_seed} {seed}"
    )
