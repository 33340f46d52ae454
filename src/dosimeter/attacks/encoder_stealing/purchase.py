"""The query phase: every surrogate input is asked for once, its vector brought to unit length and kept.

Source: StolenEncoder, arXiv 2201.05889, section 4. No augmented input is ever sent: a good encoder gives an input and
its augmentation similar vectors, so the stored vector serves as the label of all views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Batch, concatenate, content_hash, take

_TINY = 1e-12
_DIMMED = 0.5


@dataclass(frozen=True, eq=False)
class Purchase:
    """What was bought: the inputs exactly as they were sent, and what the service said to each.

    Attributes:
        inputs: batch of n inputs, as sent; train on these, not on originals that were re-encoded on the way.
        vectors: (n, d) float32 as returned.
    """

    inputs: Batch
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def unit(self) -> np.ndarray:
        """(n, d) float32, every row of Euclidean length 1."""
        return unit_rows(self.vectors)

    @property
    def digest(self) -> str:
        """Content hash of inputs and vectors."""
        return content_hash(self.inputs, self.vectors)

    def take(self, rows: np.ndarray) -> Purchase:
        """The inputs and vectors at ``rows``, in that order."""
        return Purchase(take(self.inputs, rows), self.vectors[rows])

    def permuted(self, generator: np.random.Generator) -> Purchase:
        """The same inputs with the vectors dealt out anew: a control from which nothing can be learned."""
        return Purchase(self.inputs, self.vectors[generator.permutation(len(self))])

    def random(self, generator: np.random.Generator) -> Purchase:
        """The same inputs with random unit vectors that say nothing of them: a copy of these is a floor."""
        drawn = generator.standard_normal(self.vectors.shape)
        return Purchase(self.inputs, unit_rows(drawn))

    def constant(self) -> Purchase:
        """The same inputs, all with the mean vector: what a service that says one thing would sell."""
        return Purchase(self.inputs, np.repeat(self.vectors.mean(0, keepdims=True), len(self), axis=0))

    def joined(self, other: Purchase) -> Purchase:
        """This purchase, then ``other``."""
        return Purchase(
            concatenate([self.inputs, other.inputs]), np.concatenate([self.vectors, other.vectors])
        )


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` (n, d) as float32 rows of length 1; a row of zeros stays one."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)


def buy(oracle: Oracle, inputs: Batch) -> Purchase:
    """Ask for each of ``inputs`` once; a copy that the cache knows is free.

    Raises:
        InputError: no inputs.
        TargetError: a vector of zeros, which has no direction (named by its index), or what the oracle raises: NaN,
            vectors of changing length, a service that fails.
        BudgetExceeded: the queries do not fit; nothing was sent.
    """
    if len(inputs) == 0:
        raise InputError(
            "stealing an encoder needs surrogate inputs, but got none. Give some as data.public."
        )
    vectors = np.asarray(oracle(inputs), dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1)
    zero = np.flatnonzero(lengths <= _TINY)
    if len(zero):
        raise TargetError(
            f"target '{oracle.name}' returned a vector of zeros for {len(zero)} of {len(inputs)} inputs, first for input "
            f"{zero[0]} (counted from 0); it has no direction and cannot be learned. Check what the target takes, or "
            "leave these inputs out."
        )
    return Purchase(inputs, vectors)


@dataclass(frozen=True)
class Probe:
    """What a few inputs, some asked twice, say about a service before the money is spent.

    Attributes:
        asked_twice: inputs asked a second time.
        self_distance: mean Euclidean distance of the unit vectors of two answers to one input, 0..2; 0 if deterministic.
        spread: mean Euclidean distance of the unit vectors of two different inputs, 0..2; 0 for a constant service.
        dimmed: mean distance that halving the brightness moves a unit vector; ``None`` for what is no image.
        first, second: (n, d) both answers, as returned.
    """

    asked_twice: int
    self_distance: float
    spread: float
    dimmed: float | None
    first: np.ndarray
    second: np.ndarray

    @property
    def doubt(self) -> str | None:
        """Why a copy of this service would be worth nothing; ``None`` if there is no reason."""
        if self.spread <= 1e-4:
            return (
                f"the service gives {len(self.first)} different inputs the same vector; check the size and range of the "
                "inputs it expects"
            )
        if self.self_distance >= 0.9 * self.spread:
            return (
                f"two answers to one input differ as much as answers to different inputs ({self.self_distance:.2g} "
                f"against {self.spread:.2g}); the service answers at random"
            )
        return None


def probe(oracle: Oracle, inputs: Batch, *, dimmed: int = 5) -> Probe:
    """Ask every one of ``inputs`` twice, and ``dimmed`` images once more at half their brightness.

    Raises:
        InputError: fewer than two inputs.
    """
    if len(inputs) < 2:
        raise InputError(f"a service is probed with at least 2 inputs, but got {len(inputs)}.")
    from scipy.spatial.distance import pdist

    first, second = np.asarray(oracle(inputs)), np.asarray(oracle(inputs, repeat=1))
    a, b = unit_rows(first), unit_rows(second)
    n = len(a)
    moved = None
    if isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8:
        darker = np.rint(inputs[:dimmed] * _DIMMED).astype(np.uint8)
        moved = float(np.linalg.norm(unit_rows(np.asarray(oracle(darker))) - a[:dimmed], axis=1).mean())
    return Probe(
        asked_twice=n,
        self_distance=float(np.linalg.norm(a - b, axis=1).mean()),
        spread=float(pdist(a).mean()),
        dimmed=moved,
        first=first,
        second=second,
    )
