"""The attack on tiny encoders, set so that it takes a second, and services for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.beam import CharacterBeam
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.presentation import Investigation, Prepared
from dosimeter.attacks.encoder_inference.synthesis import Gradient
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Batch
from dosimeter.core.target import CallableTarget, Target
from support.tiny_encoders import SIZE, CharacterFeatures, image_candidates, text_candidate

CANDIDATES = image_candidates(6)
CONTEXT = Context(seed=0)
BEAM = CharacterBeam(length=12, width=8, extensions=8)
TEXT_CANDIDATES = tuple(text_candidate(i) for i in range(6))


def attack(candidates: tuple[Candidate, ...] = CANDIDATES, **settings: Any) -> EncoderInference:
    given: dict[str, Any] = {"objective_count": 8, "copies": 3, "synthesis": Gradient(canvas=SIZE, steps=60)}
    return EncoderInference(candidates=candidates, **{**given, **settings})


def text_attack(candidates: tuple[Candidate, ...] = TEXT_CANDIDATES, **settings: Any) -> EncoderInference:
    return attack(candidates, **{"synthesis": BEAM, **settings})


def outcome(target: Target, prepared: Prepared, making: Any = attack, **settings: Any) -> Investigation:
    return making(**settings).investigate(Oracle(target), CONTEXT, prepared)


def painter(seed: int) -> Target:
    """A text-to-image service conditioned on text encoder ``seed``, with noise of its own in every picture."""
    embed, generator = CharacterFeatures(seed), np.random.default_rng(1)

    def paint(texts: Batch) -> np.ndarray:
        flat = np.tile(embed(texts) * 40 + 128, (1, 4)) + generator.normal(scale=4, size=(len(texts), 48))
        return np.clip(flat, 0, 255).astype(np.uint8).reshape(-1, 4, 4, 3)

    return CallableTarget(paint, modality="text", returns="image", batch_size=1000)


JUDGE = CallableTarget(
    lambda images: images.reshape(len(images), -1) - 128.0,
    modality="image",
    returns="embedding",
    name="judge",
)
