"""Services of our own that are not built on a given candidate: what its samples reach there means nothing.

Each is a random linear head, answering labels, on the standardised embeddings of an encoder that was never trained or
of another candidate. Some attack samples resemble their objective for any encoder (those of an auto-encoder look like
it); on reference services this shows, and the decision subtracts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dosimeter.core.records import Batch
from dosimeter.core.seeding import rng

Embedder = Callable[[Batch], np.ndarray]

_CLASSES = 10


@dataclass(frozen=True)
class Reference:
    """Similarities on reference services.

    Attributes:
        tables: (services, objectives, candidates) share of copies labelled like their objective.
        foreign: (services, candidates) bool; whether the service is built on nothing related to the candidate.
        expected: (objectives, candidates) mean over the foreign services of each candidate.
    """

    tables: np.ndarray
    foreign: np.ndarray
    expected: np.ndarray

    @classmethod
    def of(cls, tables: np.ndarray, foreign: np.ndarray) -> Reference:
        """The similarities ``tables`` with what ``foreign`` services lead to expect; shapes as in the attributes."""
        weights = foreign / foreign.sum(axis=0)
        return cls(tables=tables, foreign=foreign, expected=np.einsum("sjc,sc->jc", tables, weights))

    @property
    def finest_p(self) -> float:
        """The least p-value that any set of groups can reach: only services foreign to all candidates are sure to count."""
        return float(1 / (1 + self.foreign.all(axis=1).sum()))

    def p_value(self, margin: float, rows: Sequence[int], columns: Sequence[Sequence[int]]) -> float:
        """Share of reference services whose best group of columns leads the next by ``margin`` or more.

        Only groups foreign to a service take part, so every lead is by chance; services to which fewer than two are
        foreign show no lead and are left out. Counts the observed service as one more (Phipson and Smyth 2010): the
        least value is 1 / (services + 1).
        """
        freed = self.tables[:, list(rows)].mean(axis=1) - self.expected[list(rows)].mean(axis=0)
        scores = np.stack([freed[:, list(group)].mean(axis=1) for group in columns], axis=1)
        taking_part = np.stack([self.foreign[:, list(group)].all(axis=1) for group in columns], axis=1)
        usable = taking_part.sum(axis=1) >= 2
        scores = np.where(taking_part, scores, -np.inf)[usable]
        best = np.partition(scores, -2, axis=1)[:, -2:]
        leads = best[:, 1] - best[:, 0]
        return float((1 + (leads >= margin - 1e-12).sum()) / (1 + len(leads)))


def planted_tables(
    embed: Embedder, samples: Sequence[Batch], objectives: Batch, *, heads: int, seed: int
) -> np.ndarray:
    """(heads, objectives, candidates): what services with random heads on ``embed`` answer to ``samples``.

    Args:
        samples: per candidate m * k records, the k copies of an objective side by side.
    """
    goals = np.asarray(embed(objectives), dtype=np.float64)
    attacks = [np.asarray(embed(batch), dtype=np.float64) for batch in samples]
    everything = np.concatenate([goals, *attacks])
    centre, scale = everything.mean(axis=0), everything.std(axis=0) + 1e-12
    tables = []
    for head in range(heads):
        weights = rng(seed, "reference-head", head).normal(size=(goals.shape[1], _CLASSES)) / scale[:, None]
        expected = ((goals - centre) @ weights).argmax(axis=1)[:, None]
        labels = [((found - centre) @ weights).argmax(axis=1).reshape(len(goals), -1) for found in attacks]
        tables.append(np.stack([(found == expected).mean(axis=1) for found in labels], axis=1))
    return np.stack(tables)


class UntrainedFeatures:
    """An encoder that learned nothing: random rectified features of coarse pixels, or of hashed character n-grams."""

    def __init__(self, *, seed: int, dimensions: int = 64) -> None:
        generator = rng(seed, "untrained-features")
        self._first = generator.normal(size=(192, 256)) / np.sqrt(192)
        self._second = generator.normal(size=(256, dimensions)) / np.sqrt(256)

    def __call__(self, batch: Batch) -> np.ndarray:
        """(n, h, w, 3) uint8 images or n strings -> (n, dimensions) float64."""
        raw = (
            _coarse_pixels(batch)
            if isinstance(batch, np.ndarray)
            else _letter_counts([str(text) for text in batch])
        )
        return np.maximum(raw @ self._first, 0) @ self._second


def _coarse_pixels(images: np.ndarray) -> np.ndarray:
    """(n, 192): 8 x 8 mean colours in -0.5..0.5, whatever the size of the images."""
    means = images.astype(np.float64)
    for axis in (1, 2):
        edges = np.linspace(0, images.shape[axis], 9).astype(int)
        pixels = np.maximum(np.diff(edges), 1)
        means = np.add.reduceat(means, edges[:-1], axis=axis) / np.expand_dims(
            pixels, tuple({0, 1, 2, 3} - {axis})
        )
    return (means / 255 - 0.5).reshape(len(images), -1)


def _letter_counts(texts: list[str]) -> np.ndarray:
    """(n, 192): centred counts of characters and pairs of characters, hashed."""
    counts = np.zeros((len(texts), 192))
    for row, text in enumerate(texts):
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
        for grams in (codes, codes[:-1] * 31 + codes[1:] * 7):
            np.add.at(counts[row], grams % 192, 1)
    return counts - counts.mean(axis=1, keepdims=True)
