"""Defences that change what goes into a service: JPEG re-encoding of images, random flips of characters.

Both damage the fine detail that crafted inputs depend on more than what ordinary users send. At zero strength
(``quality=None`` without ``resize``, ``rate=0``) a service answers as it does without them.
"""

from __future__ import annotations

import io
import string
from typing import ClassVar, Literal, Self, cast

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from dosimeter.core.access import Needs, Returns
from dosimeter.core.card import Card, Paper
from dosimeter.core.method import Defense, Generators
from dosimeter.core.records import Batch, Prompt
from dosimeter.data.images import resize as resize_images

_ANY_ANSWER: tuple[Returns, ...] = (
    "label",
    "scores",
    "embedding",
    "text",
    "tokens+logprobs",
    "mask",
    "image",
)
_PAPER = Paper(
    title="Pre-trained Encoder Inference: Revealing Upstream Encoders In Downstream Machine Learning Services",
    authors="Shaopeng Fu, Xuexue Sun, Ke Qing, Tianhang Zheng, Di Wang",
    year=2024,
    url="https://arxiv.org/abs/2408.02814",
)
_THREAT_MODEL = (
    "A client who may only ask the service sends inputs crafted for an encoder it may be built on. "
    "The client may know that the defence is there."
)
_TAGS = ("AML.M0010",)


class JpegInputs(Defense):
    """Re-encodes every input image as JPEG (Pillow, 4:2:0 chroma), before or after resizing it.

    The order decides whether an attacker gets around it by sending enlarged images: a service that resizes first
    undoes the enlarging before JPEG sees it. Nothing is random. Images of a prompt are treated like any other.
    """

    card: ClassVar[Card] = Card(
        slug="jpeg-inputs",
        kind="defense",
        title="JPEG re-encoding of inputs",
        purpose="Does lossy re-encoding of what users send keep crafted images from revealing the encoder?",
        threat_model=_THREAT_MODEL,
        needs=Needs(modalities=("image", "prompt"), returns=_ANY_ANSWER),
        paper=_PAPER,
        tags=_TAGS,
    )

    quality: int | None = Field(75, ge=1, le=95, description="JPEG quality; null does not re-encode")
    resize: int | None = Field(
        None, ge=8, le=4096, description="side in pixels that images are resized to; null keeps them"
    )
    order: Literal["jpeg-first", "resize-first"] = Field(
        "jpeg-first", description="which of the two comes first"
    )

    @model_validator(mode="after")
    def _order_of_two(self) -> Self:
        if self.order == "resize-first" and self.resize is None:
            raise ValueError("order resize-first needs resize, the side in pixels")
        return self

    def protect_inputs(self, batch: Batch, generators: Generators) -> Batch:
        if isinstance(batch, np.ndarray):
            return self._protect(batch)
        return [
            Prompt(prompt.text, tuple(self._protect(image[None])[0] for image in prompt.images))
            for prompt in cast("list[Prompt]", batch)
        ]

    def _protect(self, images: np.ndarray) -> np.ndarray:
        steps = [self._reencode, self._resize]
        for step in steps if self.order == "jpeg-first" else reversed(steps):
            images = step(images)
        return images

    def _resize(self, images: np.ndarray) -> np.ndarray:
        return images if self.resize is None else resize_images(images, self.resize)

    def _reencode(self, images: np.ndarray) -> np.ndarray:
        if self.quality is None or len(images) == 0:
            return images
        return np.stack([_through_jpeg(image, self.quality) for image in images])


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """(h, w, 3) uint8 after encoding and decoding."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB"))


class CharacterFlips(Defense):
    """Replaces each character of an input text, with probability ``rate``, by another one from ``alphabet``.

    Random, but drawn once per text from the seed and the text itself: asking again does not average it away.
    """

    card: ClassVar[Card] = Card(
        slug="character-flips",
        kind="defense",
        title="Random character flips in inputs",
        purpose="Do random typing errors in what users send keep crafted texts from revealing the encoder?",
        threat_model=_THREAT_MODEL,
        needs=Needs(modalities=("text",), returns=_ANY_ANSWER),
        paper=_PAPER,
        tags=_TAGS,
    )

    rate: float = Field(0.2, ge=0, le=1, description="probability of replacing a character")
    alphabet: str = Field(string.ascii_lowercase, description="characters that replacements come from")

    @model_validator(mode="after")
    def _leaves_a_choice(self) -> Self:
        if len(set(self.alphabet)) < 2 or len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError(
                f"expected an alphabet of at least two characters, all different, but got {self.alphabet!r}"
            )
        return self

    def protect_inputs(self, batch: Batch, generators: Generators) -> Batch:
        return [
            self._flip(text, generator) for text, generator in zip(cast("list[str]", batch), generators())
        ]

    def _flip(self, text: str, generator: np.random.Generator) -> str:
        flips = generator.random(len(text)) < self.rate
        # One place in the alphabet is skipped, so a character that is in it never stands for itself.
        places = generator.integers(len(self.alphabet) - 1, size=len(text))
        return "".join(
            self._other(character, int(place)) if flip else character
            for character, flip, place in zip(text, flips, places)
        )

    def _other(self, character: str, place: int) -> str:
        own = self.alphabet.find(character)
        return self.alphabet[place + 1 if own != -1 and place >= own else place]
