"""Defences that coarsen or blur the vectors an encoder service returns: top-k, rounding, noise.

Honest customers get the same vectors, so each is judged by what it costs them and a thief. Does not own: poisoning, which
needs a student of its own (``feature_poisoning``); the thief that sees through them (``attacks.encoder_stealing``).
Source: StolenEncoder (arXiv 2201.05889), which names top-k, rounding and poisoning without code; what is inferred is said.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self, cast

import numpy as np
from pydantic import Field, model_validator

from dosimeter.core.access import Needs
from dosimeter.core.card import Card, Paper
from dosimeter.core.errors import InputError
from dosimeter.core.method import Defense, Generators
from dosimeter.core.records import Answers, Batch

PAPER = Paper(
    title="StolenEncoder: Stealing Pre-trained Encoders in Self-supervised Learning",
    authors="Yupei Liu, Jinyuan Jia, Hongbin Liu, Neil Zhenqiang Gong",
    year=2022,
    url="https://arxiv.org/abs/2201.05889",
)
THREAT_MODEL = (
    "A client who may only ask the service sends unlabelled inputs and trains a copy of the encoder on the vectors that "
    "come back. The client may know that the defence is there. Honest customers get the same altered vectors."
)
NEEDS = Needs(modalities=("image", "text", "table", "prompt"), returns=("embedding",))
TAGS = ("AML.M0002",)


class TopKFeatures(Defense):
    """Keeps the ``k`` largest entries of every vector and sets the others to zero. Nothing is random.

    ``by: signed`` keeps the largest values, as the published re-implementation does [inferred: the paper does not say]; it
    fits features that are never negative, such as those behind a ReLU. For features with negative values, ``magnitude``
    keeps what carries most of the vector; signed would drop every large negative entry. Of equal entries the first stay.
    ``share: 1`` changes nothing.
    """

    card: ClassVar[Card] = Card(
        slug="feature-top-k",
        kind="defense",
        title="Top-k features",
        purpose="Does returning only the largest entries of each vector keep the encoder from being stolen?",
        threat_model=THREAT_MODEL,
        needs=NEEDS,
        paper=PAPER,
        tags=TAGS,
    )

    k: int | None = Field(None, ge=1, description="entries kept per vector; in place of share")
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the entries kept, rounded to a whole number, at least 1; 1 keeps all",
    )
    by: Literal["signed", "magnitude"] = Field(
        "signed", description="what is largest: the value, or its magnitude for features with negative values"
    )

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.k is None) == (self.share is None):
            raise ValueError("give either k (entries kept) or share (of the width), one of them")
        return self

    def kept(self, width: int) -> int:
        """Entries kept of vectors of this width.

        Raises:
            InputError: ``k`` is larger than ``width``.
        """
        if self.k is None:
            return max(1, round(cast("float", self.share) * width))
        if self.k > width:
            raise InputError(
                f"feature-top-k is to keep {self.k} entries, but the vectors have only {width}. "
                "Choose a smaller k, or give share."
            )
        return self.k

    def protect_answers(self, answers: Answers, batch: Batch, generators: Generators) -> Answers:
        vectors = np.asarray(answers)
        kept = self.kept(vectors.shape[1])
        if kept == vectors.shape[1]:
            return answers
        size = np.abs(vectors) if self.by == "magnitude" else vectors
        places = np.argsort(-size, axis=1, kind="stable")[:, :kept]
        coarse = np.zeros_like(vectors)
        np.put_along_axis(coarse, places, np.take_along_axis(vectors, places, axis=1), axis=1)
        return coarse


class FeatureRounding(Defense):
    """Rounds every entry to ``decimals`` (halves to even). Nothing is random.

    ``unit: true`` brings every vector to length 1 first, as the published re-implementation does, and returns the
    rounded unit vector: its length is about 1 whatever the encoder's was, and is not scaled back, which would return at
    full precision what rounding is to hide. ``unit: false`` rounds the vectors as they are [inferred]. Entries of a unit
    vector of width d are near 1/sqrt(d): at one decimal most of a wide vector becomes zero, and a vector without an entry
    of at least 0.05 becomes zero altogether. ``decimals: null`` changes nothing, lengths included.
    """

    card: ClassVar[Card] = Card(
        slug="feature-rounding",
        kind="defense",
        title="Rounded features",
        purpose="Does rounding the entries of each vector keep the encoder from being stolen?",
        threat_model=THREAT_MODEL,
        needs=NEEDS,
        paper=PAPER,
        tags=TAGS,
    )

    decimals: int | None = Field(1, ge=0, le=12, description="places after the point; null does not round")
    unit: bool = Field(
        True, description="bring vectors to length 1 before rounding, and return them like that"
    )

    def protect_answers(self, answers: Answers, batch: Batch, generators: Generators) -> Answers:
        if self.decimals is None:
            return answers
        vectors = np.asarray(answers)
        exact = in_rows(vectors)
        if self.unit:
            lengths = row_lengths(exact)
            exact = exact / np.where(lengths > 0, lengths, 1)
        # Adding zero turns -0.0, which would tell the sign of what was rounded away, into 0.0.
        return (np.round(exact, self.decimals) + 0.0).astype(vectors.dtype)


class FeatureNoise(Defense):
    """Adds Gaussian noise whose length is ``rho`` times that of the vector.

    Every coordinate of the noise r is drawn alike and r is then scaled so that ||r|| = rho ||v|| exactly. Strength is a
    relative length because entries of a unit vector of width d are only about 1/sqrt(d) large: at d = 512, a standard
    deviation of 0.5 would be noise of 11 times the vector. ``rho: 0`` changes nothing; a vector of zeros stays one.

    ``draw: per-input`` draws once per input, from the seed and the input's content: asking again brings the same answer.
    ``draw: per-query`` draws anew each time an input is asked, so whoever asks n times and takes the mean is left with
    noise of about rho / sqrt(n); it is there to be compared with.
    """

    card: ClassVar[Card] = Card(
        slug="feature-noise",
        kind="defense",
        title="Noise on features",
        purpose="Does noise on each vector keep the encoder from being stolen?",
        threat_model=THREAT_MODEL,
        needs=NEEDS,
        paper=PAPER,
        tags=TAGS,
    )

    rho: float = Field(0.5, ge=0, le=100, description="length of the noise over length of the vector")
    draw: Literal["per-input", "per-query"] = Field(
        "per-input",
        description="once per input, or anew each time it is asked (asking often averages it away)",
    )

    @property
    def draws_per_query(self) -> bool:
        return self.draw == "per-query"

    def protect_answers(self, answers: Answers, batch: Batch, generators: Generators) -> Answers:
        if self.rho == 0 or len(answers) == 0:
            return answers
        vectors = np.asarray(answers)
        exact = in_rows(vectors)
        noise = normal_rows(generators, exact.shape[1])
        noise *= self.rho * row_lengths(exact) / row_lengths(noise)
        return (exact + noise).astype(vectors.dtype)


def in_rows(vectors: np.ndarray) -> np.ndarray:
    """(n, d) float64, in rows of memory, so that sums over a row are the same bits whatever stands beside it."""
    return np.ascontiguousarray(vectors, dtype=np.float64)


def row_lengths(vectors: np.ndarray) -> np.ndarray:
    """(n, 1) Euclidean lengths of rows."""
    return np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))


def normal_rows(generators: Generators, width: int) -> np.ndarray:
    """(n, width) standard normal draws, each row from its record's own generator."""
    return np.stack([generator.standard_normal(width) for generator in generators()])
