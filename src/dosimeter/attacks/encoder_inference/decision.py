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
from dosimeter.stats.intervals import cluster_bootstrap
from dosimeter.stats.outliers import grubbs_critical, grubbs_p, z_scores

Kind = Literal["identified", "family", "none", "undecidable"]
Rule = Literal["grubbs", "z"]


@dataclass(frozen=True)
class Decision:
    """What the scores say.

    Attributes:
        kind: ``identified`` (``named`` is a candidate), ``family`` (``named`` is a family), ``none`` (the hidden
            encoder is not among the candidates, or does not show), ``undecidable`` (with ``reason``).
        scores, z: (candidates,) PEI score and standard score (ddof=1); ``z`` is ``None`` where undecidable.
        grubbs_p: family-wise p-value of the largest score.
        low, high: (candidates,) 95 % intervals of the scores over objectives.
        margin, margin_low: top score minus runner-up, and its one-sided lower limit at level 1 - alpha.
        threshold: critical z that was applied.
    """

    kind: Kind
    named: str | None
    reason: str
    scores: np.ndarray
    low: np.ndarray
    high: np.ndarray
    z: np.ndarray | None
    grubbs_p: float | None
    margin: float
    margin_low: float
    threshold: float | None


def decide(
    per_objective: np.ndarray,
    candidates: Sequence[Candidate],
    *,
    rule: Rule,
    alpha: float,
    tau: float,
    generator: np.random.Generator,
) -> Decision:
    """Decide from ``per_objective`` (objectives, candidates): mean similarity over copies.

    ``grubbs``: the top score is an outlier at family-wise error ``alpha`` (Grubbs' test, one-sided). ``z``: it lies
    more than ``tau`` standard deviations above the mean (the paper's rule; its error grows with the number of
    candidates). Both ask in addition that the margin over the runner-up be above zero when objectives are resampled:
    the outlier test alone would call a chance difference infinitely significant once all other scores tie. Where no
    single candidate stands out, the families' mean scores are tested in the same way; the two tests share ``alpha``
    equally, so that the stated error covers both.
    """
    scores = per_objective.mean(axis=0)
    low, high = cluster_bootstrap(per_objective, generator)
    common = {"scores": scores, "low": low, "high": high}
    if len(scores) < FEWEST_CANDIDATES:
        return _undecidable(f"{len(scores)} candidates; the rule needs at least {FEWEST_CANDIDATES}", **common)
    if np.ptp(scores) == 0:
        return _undecidable(f"all {len(scores)} candidates have the same score ({scores[0]:.3g})", **common)
    kin = [candidate.kin for candidate in candidates]
    families = list(dict.fromkeys(kin))
    has_families = FEWEST_CANDIDATES <= len(families) < len(candidates)
    test = _Test(rule, alpha / 2 if has_families else alpha, tau, generator)
    single = test(per_objective)
    top = int(np.argmax(scores))
    if single.fires:
        if candidates[top].decoy:
            return _undecidable(f"the decoy '{candidates[top].name}' scored highest", **common)
        kind, named = "identified", candidates[top].name
        reason = f"its score stands out: {single.sentence}"
    else:
        kind, named, reason = "none", None, f"no candidate stands out: {single.sentence}"
        if has_families:
            means = [per_objective[:, [k == family for k in kin]].mean(axis=1) for family in families]
            by_family = np.stack(means, axis=1)
            grouped = test(by_family)
            family = families[int(np.argmax(by_family.mean(axis=0)))]
            if grouped.fires and kin.count(family) > 1:
                kind, named = "family", family
                reason = f"no single candidate stands out, but the family does: {grouped.sentence}"
    return Decision(
        kind=kind,  # type: ignore[arg-type]
        named=named,
        reason=reason,
        z=single.z,
        grubbs_p=single.p,
        margin=single.margin,
        margin_low=single.margin_low,
        threshold=single.threshold,
        **common,
    )


def _undecidable(reason: str, **scores: np.ndarray) -> Decision:
    return Decision(
        kind="undecidable", named=None, reason=reason, z=None, grubbs_p=None, margin=0.0, margin_low=0.0, threshold=None, **scores
    )


@dataclass(frozen=True)
class _Outcome:
    fires: bool
    z: np.ndarray
    p: float
    margin: float
    margin_low: float
    threshold: float
    sentence: str


class _Test:
    """The outlier test with its margin condition, on any (objectives, columns) table of similarities."""

    def __init__(self, rule: Rule, alpha: float, tau: float, generator: np.random.Generator) -> None:
        self.rule, self.alpha, self.tau, self.generator = rule, alpha, tau, generator

    def __call__(self, table: np.ndarray) -> _Outcome:
        scores = table.mean(axis=0)
        n = len(scores)
        if np.ptp(scores) == 0:
            return _Outcome(False, np.zeros(n), 1.0, 0.0, 0.0, np.inf, "all scores are equal")
        z = z_scores(scores)
        order = np.argsort(scores)
        top, second = int(order[-1]), int(order[-2])
        threshold = grubbs_critical(n, self.alpha) if self.rule == "grubbs" else self.tau
        difference = (table[:, top] - table[:, second])[:, None]
        # The lower end of a two-sided interval at level 1 - 2 alpha is the one-sided limit at level 1 - alpha.
        margin_low = float(cluster_bootstrap(difference, self.generator, level=1 - 2 * self.alpha)[0][0])
        p = grubbs_p(float(z[top]), n)
        sentence = (
            f"z = {z[top]:.2f} against {threshold:.2f}, p = {p:.2g}, "
            f"margin over the next {difference.mean():.2f} (at least {margin_low:.2f})"
        )
        fires = bool(z[top] > threshold and margin_low > 0)
        return _Outcome(fires, z, p, float(difference.mean()), margin_low, threshold, sentence)
