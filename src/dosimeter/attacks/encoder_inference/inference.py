"""Stage 2: what the service answers to objectives, noise and attack samples.

Whether the answers can be trusted is found out first: does the service agree with itself, do the objectives get
different answers, and which answers does plain noise get?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dosimeter.attacks.encoder_inference.similarity import (
    ImageJudge,
    LabelEquality,
    SelfScore,
    Similarity,
    TextMatch,
)
from dosimeter.core.oracle import Determinism, Oracle
from dosimeter.core.records import Batch, concatenate, take

#: Noise inputs sent to learn into which answers everything meaningless falls.
NOISE_PROBES = 20
#: A service that disagrees with itself more often than this cannot be compared with anything (spec of the paper).
MOST_DISAGREEMENT = 0.2
#: An objective that half of all noise is taken for says nothing about an encoder.
MOST_BASE_RATE = 0.5


@dataclass(frozen=True)
class Checks:
    """What was learned about the service before any attack sample was sent.

    Attributes:
        base_rate: (m,) mean similarity of noise to each objective; the score of a sample that means nothing.
        kept: (m,) bool, objectives worth asking about.
        determinism: self-agreement on the objectives; ``None`` for services that sample their answers by design.
        problem: why nothing can be decided, or ``None``.
    """

    base_rate: np.ndarray
    kept: np.ndarray
    determinism: Determinism | None
    problem: str | None


@dataclass
class Inference:
    """Similarities asked so far; rows are objectives, in the order they were asked."""

    checks: Checks
    asked: list[int] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    dropped: int = 0
    compared: int = 0

    @property
    def per_objective(self) -> np.ndarray:
        """(asked objectives, candidates) mean similarity over copies."""
        return np.stack(self.rows)

    @property
    def base_rate(self) -> float:
        """Mean score of noise on the objectives asked, on all of them where none was."""
        rates = self.checks.base_rate
        return float(rates[self.asked].mean() if self.asked else rates.mean())


def compares_labels(similarity: Similarity) -> bool:
    """Whether similarities are 0 or 1 according to the class that the service names."""
    return isinstance(similarity, LabelEquality) or (
        isinstance(similarity, TextMatch) and bool(similarity.classes)
    )


def check_service(oracle: Oracle, similarity: Similarity, objectives: Batch, noise: Batch) -> Checks:
    """Ask the objectives twice and the noise once."""
    m = len(objectives)
    determinism = _determinism(oracle, similarity, objectives)
    # Every pair is a query of its own where the service compares: one noise input per objective has to do.
    noises = 1 if isinstance(similarity, SelfScore) else len(noise)
    probes = take(noise, np.arange(m * noises) % len(noise))
    found = similarity.compare(oracle, probes, take(objectives, np.repeat(np.arange(m), noises)))
    read = np.where(found.dropped_mask, np.nan, found.values).reshape(m, noises)
    known = np.isfinite(read).any(axis=1)
    base_rate = np.where(known, np.nanmean(np.where(known[:, None], read, 0.0), axis=1), 0.0)
    kept = np.ones(m, dtype=bool)
    problem = None
    if compares_labels(similarity):
        readable = np.flatnonzero(~similarity.compare(oracle, objectives, objectives).dropped_mask)
        first = np.repeat(readable[:1], len(readable))
        same = similarity.compare(oracle, take(objectives, first), take(objectives, readable)).values
        if len(readable) and same.all():
            problem = (
                "the service gives all objectives the same answer, so no attack sample can be told from "
                "another; choose other objectives with data.public"
            )
        kept = base_rate < MOST_BASE_RATE
        if problem is None and kept.sum() < 2:
            problem = f"noise gets the answer of {m - int(kept.sum())} of {m} objectives; choose others with data.public"
    if determinism is not None and determinism.rate > MOST_DISAGREEMENT:
        problem = (
            f"the service disagreed with itself on {determinism.disagreeing} of {determinism.n} objectives asked twice "
            f"(at most {MOST_DISAGREEMENT:.0%} allowed); switch off what makes its answers vary"
        )
    return Checks(base_rate=base_rate, kept=kept, determinism=determinism, problem=problem)


def _determinism(oracle: Oracle, similarity: Similarity, objectives: Batch) -> Determinism | None:
    """How often answers to the same objective differ, in what ``similarity`` compares."""
    if isinstance(similarity, ImageJudge | SelfScore):
        return None
    if isinstance(similarity, LabelEquality) and oracle.returns == "scores":
        first, second = (np.asarray(oracle(objectives, repeat=turn)).argmax(axis=1) for turn in (0, 1))
        return Determinism(n=len(first), disagreeing=int((first != second).sum()))
    return oracle.determinism(objectives)


def ask(
    inference: Inference,
    oracle: Oracle,
    similarity: Similarity,
    objectives: Batch,
    samples: Sequence[Batch],
    which: Sequence[int],
) -> None:
    """Send the attack samples of all candidates for the objectives ``which`` and add the similarities to ``inference``.

    Args:
        samples: per candidate, m * k records with the k copies of an objective side by side.
    """
    values = np.full((len(which), len(samples), _copies(samples[0], objectives)), np.nan)
    for together in _same_shape(samples):
        # One call for all of them, so that a remote service is kept busy.
        picked = [_of_objectives(samples[candidate], which, len(objectives)) for candidate in together]
        copies = values.shape[2]
        against = take(objectives, np.tile(np.repeat(which, copies), len(together)))
        found = similarity.compare(oracle, concatenate(picked), against)
        usable = np.where(found.dropped_mask, np.nan, found.values)
        values[:, together] = usable.reshape(len(together), len(which), copies).swapaxes(0, 1)
        inference.dropped += found.dropped
        inference.compared += len(usable)
    for objective, row in zip(which, values):
        # An objective for which some candidate has no usable reply cannot be compared across candidates.
        if np.isfinite(row).any(axis=1).all():
            inference.asked.append(int(objective))
            inference.rows.append(np.nanmean(row, axis=1))


def _copies(batch: Batch, objectives: Batch) -> int:
    return len(batch) // len(objectives)


def _of_objectives(batch: Batch, which: Sequence[int], m: int) -> Batch:
    rows = np.arange(len(batch)).reshape(m, -1)[np.asarray(which)]
    return take(batch, rows.ravel())


def _same_shape(samples: Sequence[Batch]) -> list[list[int]]:
    """Candidates grouped by the shape of their samples; texts all go together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for candidate, batch in enumerate(samples):
        shape = batch.shape[1:] if isinstance(batch, np.ndarray) else ()
        groups.setdefault(shape, []).append(candidate)
    return list(groups.values())


def looks_schedule(objectives: int, looks: int) -> list[int]:
    """After how many objectives the test looks: ``looks`` equal steps, the last after all, none before the second."""
    return sorted({max(2, round(objectives * (look + 1) / looks)) for look in range(looks)})
