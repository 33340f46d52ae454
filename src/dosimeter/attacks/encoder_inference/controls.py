"""Controls that run on the attacker's side, before a word of the service is believed.

A *planted* service is built on a candidate: the attack must name it. A *null* service is built on an encoder that was
never trained: the attack must name nobody. Both ask the very samples that the real service will be asked, and are
judged by the same rule; neither is part of the reference that the rule uses. What the planted services answer also
says which objectives tell candidates apart, so that a sequential run can ask those first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.decision import Decision
from dosimeter.attacks.encoder_inference.reference import (
    Embedder,
    Reference,
    UntrainedFeatures,
    planted_tables,
)
from dosimeter.core.errors import TargetError
from dosimeter.core.progress import track
from dosimeter.core.records import Batch
from dosimeter.core.seeding import derive_seed

_HEADS = 10
_UNTRAINED = 10
# The least reference p-value is 1 / (services + 1): with five looks and families, errors of 0.005 must be resolved.
_REFERENCE_HEADS = 40

Judge = Callable[[np.ndarray, Reference], Decision]
"""(objectives, candidates) similarities and the reference -> decision."""


@dataclass(frozen=True)
class Controls:
    """Outcome of the planted and the null services, and the reference they were judged by.

    Attributes:
        planted, planted_named, planted_wrong: services on a candidate; named rightly; named wrongly.
        null, null_accused: services on an untrained encoder; those where somebody was named.
        skipped: candidates without a planted service, because their embeddings are only known for a pool that lacks
            samples of others.
        discrimination: (objectives,) agreement of the true candidate minus that of the others, over planted services.
        queries: forward passes of candidates.
    """

    planted: int
    planted_named: int
    planted_wrong: int
    null: int
    null_accused: int
    skipped: tuple[str, ...]
    discrimination: np.ndarray
    reference: Reference
    queries: int

    @property
    def ok(self) -> bool:
        """The attack finds what is there, and no more than chance where nothing is.

        At least half of the planted services are named and almost none wrongly; the rate of accused null services is
        not above one in six, the false accusations that the paper itself reports with the encoder removed.
        """
        return (
            self.planted > 0
            and self.planted_named >= 0.5 * self.planted
            and self.planted_wrong <= 0.05 * self.planted
            and self.null_accused <= self.null / 6
        )


def run_controls(
    candidates: Sequence[Candidate],
    embedders: Sequence[Embedder],
    samples: Sequence[Batch],
    objectives: Batch,
    judge: Judge,
    *,
    seed: int,
) -> Controls:
    """Build the reference, then judge fresh planted and null services by it. ``samples`` as in ``planted_tables``."""
    n = len(candidates)
    skipped = [
        i
        for i, candidate in enumerate(candidates)
        if candidate.access == "precomputed" and not _knows(embedders[i], [objectives, *samples])
    ]
    able = [i for i, candidate in enumerate(candidates) if i not in skipped and not candidate.decoy]
    kin = np.array([candidate.kin for candidate in candidates])
    heads = _REFERENCE_HEADS + _HEADS
    tables, foreign, planted, null = [], [], [], []
    with track("controls", _UNTRAINED + len(able)) as bar:
        for number in range(_UNTRAINED):
            # Reference and control on different untrained encoders: what is judged must not be what it is judged by.
            for into, count, use in ((tables, _REFERENCE_HEADS, "reference"), (null, _HEADS, "null")):
                features = UntrainedFeatures(seed=derive_seed(seed, "untrained", use, number))
                of = derive_seed(seed, use, number)
                into.append(planted_tables(features, samples, objectives, heads=count, seed=of))
            foreign += [np.ones(n, dtype=bool)] * _REFERENCE_HEADS
            bar.advance()
        for i in able:
            made = planted_tables(
                embedders[i], samples, objectives, heads=heads, seed=derive_seed(seed, "planted", i)
            )
            tables.append(made[:_REFERENCE_HEADS])
            foreign += [kin != kin[i]] * _REFERENCE_HEADS
            planted.append(made[_REFERENCE_HEADS:])
            bar.advance()
    reference = Reference.of(np.concatenate(tables), np.stack(foreign))
    named = wrong = 0
    gaps = []
    for i, services in zip(able, planted):
        for table in services:
            decision = judge(table, reference)
            right = decision.named in (candidates[i].name, candidates[i].kin)
            named += right
            wrong += decision.named is not None and not right
            gaps.append(table[:, i] - np.delete(table, i, axis=1).mean(axis=1))
    accused = sum(judge(table, reference).named is not None for table in np.concatenate(null))
    return Controls(
        planted=len(able) * _HEADS,
        planted_named=named,
        planted_wrong=wrong,
        null=_UNTRAINED * _HEADS,
        null_accused=accused,
        skipped=tuple(candidates[i].name for i in skipped),
        discrimination=np.mean(gaps, axis=0) if gaps else np.zeros(len(objectives)),
        reference=reference,
        queries=(sum(len(batch) for batch in samples) + len(objectives)) * len(able),
    )


def _knows(embed: Embedder, batches: Sequence[Batch]) -> bool:
    """Whether a pool holds everything that the services are asked; so it does where all candidates share one pool."""
    try:
        for batch in batches:
            embed(batch)
    except TargetError:
        return False
    return True
