"""Attack texts: strings whose embedding under one candidate is that of an objective text.

A beam search over characters, query access only. Every search grows strings by one character at a time from the empty
string: each beam string is extended by some characters drawn without replacement, all extensions are scored with
``L(a) = mean((f(a) - f(x))**2)`` over embedding coordinates, and the best stay. All searches (m objectives, k copies)
run in step, and a string that several of them reach is asked for once. d counts embedding dimensions; un-pooled token
states count as one flattened embedding.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.seeding import rng

Embed = Callable[[list[str]], np.ndarray]
"""n distinct strings -> (n, d) float embeddings, in order."""

# Numbers in one block of embeddings: 64 MB in double precision, whatever d is.
_NUMBERS_A_BLOCK = 2**23


class CharacterBeam(BaseModel):
    """Settings of the search; the defaults are those published for text classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["beam"] = "beam"
    length: int = Field(16, ge=1, le=512, description="characters of an attack text; one step each")
    alphabet: str = Field(string.ascii_lowercase + "!?.,", description="characters to choose from")
    width: int = Field(150, ge=1, description="strings kept after each step")
    extensions: int = Field(16, ge=1, description="different characters tried after each kept string")

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        if not self.alphabet.isprintable() or len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError(
                f"expected an alphabet of different printable characters, but got {self.alphabet!r}"
            )
        if self.extensions > len(self.alphabet):
            raise ValueError(
                f"expected at most {len(self.alphabet)} extensions, one per character of the alphabet, "
                f"but got {self.extensions}"
            )
        return self

    def queries_per_sample(self) -> int:
        """Strings that one search scores: 33,872 for classification, 62,496 for text-to-image."""
        scored, kept = 0, 1
        for _ in range(self.length):
            grown = kept * self.extensions
            scored, kept = scored + grown, min(grown, self.width)
        return scored


CLASSIFICATION = CharacterBeam()
"""Published settings against text classifiers."""

TEXT_TO_IMAGE = CharacterBeam(
    length=32, alphabet=string.ascii_letters + string.digits + string.punctuation, width=64, extensions=32
)
"""Published settings against text-to-image services; score un-pooled token states with them."""


@dataclass(frozen=True)
class BeamOutcome:
    """Attack texts and how good they are.

    Attributes:
        texts: m lists of k strings.
        losses: (m, k) float64 loss of the texts.
        start_losses: (m, k) float64 loss of random strings of the same length.
        queries: distinct strings that the candidate was asked for, the random ones included.
    """

    texts: list[list[str]]
    losses: np.ndarray
    start_losses: np.ndarray
    queries: int


def random_strings(n: int, settings: CharacterBeam, seed: int) -> list[str]:
    """``n`` strings of ``settings.length`` characters, each character drawn uniformly from the alphabet."""
    codes = rng(seed, "random-strings").integers(len(settings.alphabet), size=(n, settings.length))
    return _spell(codes, settings.alphabet)


def random_baseline(
    embed: Embed, objectives: np.ndarray, copies: int, settings: CharacterBeam, seed: int
) -> BeamOutcome:
    """What :func:`search` gives after zero steps: random strings, one per objective (m, d) and copy, and their losses."""
    objectives = _check_goals(objectives, copies)
    m = len(objectives)
    drawn = random_strings(m * copies, settings, seed)
    texts, wanted = np.unique(drawn, return_inverse=True)
    losses = _losses(embed, texts.tolist(), wanted.reshape(-1, 1), objectives, copies).reshape(m, copies)
    return BeamOutcome(
        texts=[drawn[row * copies : (row + 1) * copies] for row in range(m)],
        losses=losses,
        start_losses=losses,
        queries=len(texts),
    )


def search(
    embed: Embed,
    objectives: np.ndarray,
    copies: int,
    settings: CharacterBeam,
    seed: int,
    on_step: Callable[[float], object] | None = None,
) -> BeamOutcome:
    """Attack texts for ``objectives`` (m, d), ``copies`` each.

    The draws of copy k for objective j depend on ``seed``, j and k alone, so every candidate is searched alike and
    more copies leave the first ones as they are. Among equal losses the string drawn first wins. Strings of one step
    all have the same length, so within a search none is ever asked for twice.

    Args:
        on_step: told the share of a step after each block of strings, adding up to ``settings.length``; made for
            ``Track.advance``.

    Time is at most ``m * copies * settings.queries_per_sample()`` embeddings; memory the extensions of one step as
    16-bit integers, and one 64 MB block of embeddings.

    Raises:
        InputError: ``objectives`` is no finite (m, d) array, or ``copies`` below 1.
        TargetError: ``embed`` gives other shapes, or NaN.

    Source: Fu et al. 2025, arXiv 2408.02814, text variant, after Sadasivan et al. 2024, "Fast Adversarial Attacks on
    Language Models In One GPU Minute".
    """
    objectives = _check_goals(objectives, copies)
    start = random_baseline(embed, objectives, copies, settings, seed)
    m, letters, queries = len(objectives), len(settings.alphabet), start.queries
    generators = [rng(seed, "beam", j, k) for j in range(m) for k in range(copies)]
    searches = len(generators)
    beams = np.empty((searches, 1, 0), dtype=np.int16)
    # The place of each beam string among the distinct strings of its step: with one more character, a whole number
    # stands for a string, and duplicates are found without comparing text.
    places = np.zeros((searches, 1), dtype=np.int64)
    for _ in range(settings.length):
        drawn = np.stack([_draw(generator, beams.shape[1], settings) for generator in generators])
        grown = np.concatenate(
            [np.repeat(beams, settings.extensions, axis=1), drawn.reshape(searches, -1, 1)], axis=2
        )
        keys = (places[:, :, None] * letters + drawn).reshape(searches, -1)
        _, first, wanted = np.unique(keys, return_index=True, return_inverse=True)
        wanted = wanted.reshape(keys.shape)
        texts = _spell(grown.reshape(-1, grown.shape[2])[first], settings.alphabet)
        queries += len(texts)
        losses = _losses(embed, texts, wanted, objectives, copies, on_step)
        kept = np.argsort(losses, axis=1, kind="stable")[:, : settings.width]
        beams = np.take_along_axis(grown, kept[:, :, None], axis=1)
        places = np.take_along_axis(wanted, kept, axis=1)
    best = _spell(beams[:, 0], settings.alphabet)
    return BeamOutcome(
        texts=[best[row * copies : (row + 1) * copies] for row in range(m)],
        losses=losses.min(axis=1).reshape(m, copies),
        start_losses=start.losses,
        queries=queries,
    )


def _draw(generator: np.random.Generator, beams: int, settings: CharacterBeam) -> np.ndarray:
    """(beams, extensions) places in the alphabet, different within a row."""
    order = generator.random((beams, len(settings.alphabet))).argsort(axis=1)
    return order[:, : settings.extensions].astype(np.int16)


def _spell(codes: np.ndarray, alphabet: str) -> list[str]:
    """(n, t) places in ``alphabet`` as n strings of t characters."""
    characters = np.array(list(alphabet))[codes]
    return np.ascontiguousarray(characters).view(f"<U{codes.shape[1]}").ravel().tolist()


def _losses(
    embed: Embed,
    texts: list[str],
    wanted: np.ndarray,
    objectives: np.ndarray,
    copies: int,
    on_step: Callable[[float], object] | None = None,
) -> np.ndarray:
    """Losses (searches, e) of ``texts[wanted]``, row r against objective ``r // copies``; each text is embedded once."""
    d = objectives.shape[1]
    at_once = max(1, _NUMBERS_A_BLOCK // d)
    place = wanted.ravel()
    order = np.argsort(place, kind="stable")
    losses = np.empty(len(place))
    for start in range(0, len(texts), at_once):
        part = texts[start : start + at_once]
        embeddings = _check_embeddings(embed(part), len(part), d)
        low, high = np.searchsorted(place[order], [start, start + len(part)])
        for block in range(low, high, at_once):
            pairs = order[block : min(block + at_once, high)]
            goals = objectives[pairs // (wanted.shape[1] * copies)]
            losses[pairs] = np.square(embeddings[place[pairs] - start] - goals).mean(axis=1)
        if on_step is not None:
            on_step(len(part) / len(texts))
    return losses.reshape(wanted.shape)


def _check_goals(objectives: np.ndarray, copies: int) -> np.ndarray:
    goals = np.asarray(objectives, dtype=np.float64)
    if goals.ndim != 2 or 0 in goals.shape or not np.isfinite(goals).all():
        raise InputError(
            f"expected the embeddings of the objectives as finite numbers of shape (m, d), but got shape {goals.shape}"
            f"{'' if np.isfinite(goals).all() else ' with NaN or infinity'}. Flatten token states first."
        )
    if copies < 1:
        raise InputError(f"expected at least 1 copy per objective, but got {copies}.")
    return goals


def _check_embeddings(embeddings: np.ndarray, n: int, d: int) -> np.ndarray:
    found = np.asarray(embeddings, dtype=np.float64)
    if found.shape != (n, d):
        raise TargetError(
            f"a candidate embedded {n} texts as an array of shape {found.shape}; its objectives ask for ({n}, {d}). "
            "Pad token states to one length."
        )
    if not np.isfinite(found).all():
        raise TargetError(f"a candidate gave embeddings with NaN or infinity for {n} texts.")
    return found
