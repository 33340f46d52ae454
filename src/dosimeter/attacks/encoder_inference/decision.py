"""From similarities to a decision: which candidate, which family, none, or undecidable.

The unit of the test is the candidate: its score is the mean over objectives and copies, and only the candidates'
scores are compared with each other (samples of one candidate are not independent). Objectives are the unit of
resampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dosimeter.attacks.encoder_inference.candidates import FEWEST_CANDIDATES, Candidate
from dosimeter.attacks.encoder_inference.reference import Reference
from dosimeter.stats.intervals import cluster_bootstrap
from dosimeter.stats.outliers import grubbs_critical, grubbs_p, largest_z, z_scores

Kind = Literal["identified", "family", "none", "undecidable"]
Rule = Literal["grubbs", "z"]

# Means of equal numbers in another order differ by rounding.
_EQUAL = 1e-12


@dataclass(frozen=True)
class Decision:
    """What the scores say.

    Attributes:
        kind: ``identified`` (``named`` is a candidate), ``family`` (``named`` is a family), ``none`` (the hidden
            encoder is not among the candidates, or does not show), ``undecidable`` (with ``reason``).
        scores, low, high: (candidates,) PEI scores and their 95 % intervals over objectives. NaN where not measured.
        z: (candidates,) standard scores (ddof=1) of what the rule tests; ``None`` where undecidable.
        threshold: what the largest z is held against.
        grubbs_p: family-wise p-value of the largest z.
        margin, margin_low: best minus next of what the rule tests, and its one-sided lower limit at level 1 - alpha.
        reference_p: share of reference services, built on none of the candidates, with a margin at least as large;
            ``None`` without a reference.
    """

    kind: Kind
    named: str | None
    reason: str
    scores: np.ndarray
    low: np.ndarray
    high: np.ndarray
    z: np.ndarray | None = None
    threshold: float | None = None
    grubbs_p: float | None = None
    margin: float | None = None
    margin_low: float | None = None
    reference_p: float | None = None


def undecidable(reason: str, n: int, scores: np.ndarray | None = None) -> Decision:
    """No decision about ``n`` candidates, because of ``reason``."""
    known = np.full(n, np.nan) if scores is None else scores
    return Decision(kind="undecidable", named=None, reason=reason, scores=known, low=known, high=known)


def decide(
    per_objective: np.ndarray,
    candidates: Sequence[Candidate],
    *,
    rule: Rule,
    alpha: float,
    tau: float,
    generator: np.random.Generator,
    reference: Reference | None = None,
    asked: Sequence[int] | None = None,
) -> Decision:
    """Decide from ``per_objective`` (objectives, candidates): mean similarity over copies.

    ``z``, the paper's rule: the best score lies more than ``tau`` standard deviations above the mean. Its error grows
    with the number of candidates. Two candidates that tie at the top are not told apart.

    ``grubbs``: all of (1) the best score is an outlier by Grubbs' one-sided test at family-wise error ``alpha``;
    (2) its margin over the next stays above zero when objectives are resampled, as the outlier test alone would call
    a chance difference infinitely significant once all other scores tie; (3) with a ``reference``, scores are first
    freed of what a candidate's samples reach on services that are not built on it - some samples resemble their
    objective for any encoder - and the margin must be one that at most a share ``alpha`` of reference services shows.
    Where no single candidate stands out, families are tested by their mean; both tests then share ``alpha``.

    Args:
        asked: which objectives of the reference the rows of ``per_objective`` are; all in order if not given.
    """
    scores = per_objective.mean(axis=0)
    if len(scores) < FEWEST_CANDIDATES:
        return undecidable(
            f"{len(scores)} candidates; the rule needs at least {FEWEST_CANDIDATES}", len(scores), scores
        )
    if np.ptp(scores) <= _EQUAL:
        return undecidable(
            f"all {len(scores)} candidates have the same score ({scores[0]:.3g}); ask more objectives or copies",
            len(scores),
            scores,
        )
    if rule == "z" and tau >= largest_z(len(scores)):
        return undecidable(
            f"no score among {len(scores)} can lie {tau:g} standard deviations above their mean (at most "
            f"{largest_z(len(scores)):.2f}); add candidates or lower tau",
            len(scores),
            scores,
        )
    rows = list(range(len(per_objective))) if asked is None else list(asked)
    by_family = rule == "grubbs" and _families_to_test(candidates)
    test = _Test(rule, alpha / 2 if by_family else alpha, tau, generator, reference, rows)
    if test.reference is not None and test.reference.finest_p > test.alpha:
        return undecidable(
            f"{len(test.reference.tables)} reference services cannot show an error as small as {test.alpha:.2g}; "
            "raise alpha or take fewer looks",
            len(scores),
            scores,
        )
    columns = [[index] for index in range(len(candidates))]
    single = test(per_objective, columns)
    if single.fires:
        best = candidates[single.top]
        if best.decoy:
            return undecidable(f"the decoy '{best.name}' scored highest", len(scores), scores)
        kind: Kind = "identified"
        named: str | None = best.name
        reason = f"its score stands out: {single.sentence}"
    else:
        kind, named, reason = "none", None, f"no candidate stands out: {single.sentence}"
        if by_family:
            families = list(by_family)
            grouped = test(per_objective, list(by_family.values()))
            family = families[grouped.top]
            members = by_family[family]
            if grouped.fires and all(candidates[index].decoy for index in members):
                return undecidable(f"the decoys of family '{family}' scored highest", len(scores), scores)
            if grouped.fires and len(members) > 1:
                kind, named = "family", family
                reason = f"no single candidate stands out, but the family does: {grouped.sentence}"
    low, high = cluster_bootstrap(per_objective, generator)
    return Decision(
        kind=kind,
        named=named,
        reason=reason,
        scores=scores,
        low=low,
        high=high,
        z=single.z,
        threshold=single.threshold,
        grubbs_p=single.grubbs_p,
        margin=single.margin,
        margin_low=single.margin_low,
        reference_p=single.reference_p,
    )


def _families_to_test(candidates: Sequence[Candidate]) -> dict[str, list[int]]:
    """Columns of each family, if there are relatives and enough families for the outlier test; else nothing."""
    columns: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        columns.setdefault(candidate.kin, []).append(index)
    return columns if FEWEST_CANDIDATES <= len(columns) < len(candidates) else {}


@dataclass(frozen=True)
class _Outcome:
    fires: bool
    top: int
    z: np.ndarray
    threshold: float
    grubbs_p: float
    margin: float
    margin_low: float
    reference_p: float | None
    sentence: str


class _Test:
    """One rule, applied to groups of columns of a table of similarities."""

    def __init__(
        self,
        rule: Rule,
        alpha: float,
        tau: float,
        generator: np.random.Generator,
        reference: Reference | None,
        rows: Sequence[int],
    ) -> None:
        self.rule, self.alpha, self.tau, self.generator = rule, alpha, tau, generator
        self.reference = reference if rule == "grubbs" else None
        self.rows = rows

    def __call__(self, table: np.ndarray, columns: list[list[int]]) -> _Outcome:
        freed = table if self.reference is None else table - self.reference.expected[self.rows]
        grouped = np.stack([freed[:, group].mean(axis=1) for group in columns], axis=1)
        scores = grouped.mean(axis=0)
        order = np.argsort(scores)
        top, second = int(order[-1]), int(order[-2])
        z = z_scores(scores) if np.ptp(scores) > _EQUAL else np.zeros(len(scores))
        threshold = grubbs_critical(len(scores), self.alpha) if self.rule == "grubbs" else self.tau
        difference = grouped[:, top] - grouped[:, second]
        # The lower end of a two-sided interval at level 1 - 2 alpha is the one-sided limit at level 1 - alpha.
        margin_low = float(
            cluster_bootstrap(difference[:, None], self.generator, level=1 - 2 * self.alpha)[0][0]
        )
        margin = float(difference.mean())
        p = grubbs_p(float(z[top]), len(scores))
        sentence = f"z = {z[top]:.2f} against {threshold:.2f}, margin over the next {margin:.2f}"
        fires = bool(z[top] > threshold) and margin > _EQUAL
        reference_p = None
        if self.rule == "grubbs":
            fires = fires and margin_low > _EQUAL
            sentence += f" (at least {margin_low:.2f})"
        if self.reference is not None:
            reference_p = self.reference.p_value(margin, self.rows, columns)
            fires = fires and reference_p <= self.alpha
            sentence += f", reached by {reference_p:.1%} of reference services"
        return _Outcome(fires, top, z, threshold, p, margin, margin_low, reference_p, sentence)
