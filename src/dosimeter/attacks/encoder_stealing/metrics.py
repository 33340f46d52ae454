"""The spoils of a campaign as metrics, each with its interval or the reason why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dosimeter.attacks.encoder_stealing.campaign import FLOORS, PERMUTED, RANDOM, TARGET, UNTRAINED
from dosimeter.core.result import Metric
from dosimeter.stats.intervals import proportion_interval

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_stealing.campaign import Spoils
    from dosimeter.attacks.encoder_stealing.scoring import Share, TaskScores

_OVER_RECORDS = "percentile bootstrap over test records, 95%"
_OVER_INPUTS = "percentile bootstrap over held-out inputs, 95%"


def _metric(name: str, share: Share, description: str, *, better: bool | None, over: str) -> Metric:
    return Metric(
        name=name,
        value=share.value,
        low=min(share.low, share.value),
        high=max(share.high, share.value),
        n=share.n,
        interval=over,
        higher_is_better=better,
        description=description,
    )


def _share_metric(name: str, scores: TaskScores, best: str, heads: str) -> Metric:
    share = scores.recovered(best, TARGET, *FLOORS)
    said = (
        "what the copy has of what the service adds to a network that learned nothing from it: 0 nothing, 1 all; above 1 it is "
        f"better than the defended service. (SA - RA) / (TA - RA), {heads}"
    )
    if share is not None:
        return _metric(name, share, said, better=False, over=_OVER_RECORDS)
    return Metric(
        name=name,
        value=None,
        reason=f"the target is not better on this task than a network that learned nothing from it, judged by {heads}",
        higher_is_better=False,
        description=said,
    )


def task_metrics(found: Spoils) -> list[Metric]:
    """Per task: recovered shares, accuracies, ratio and agreement of the best copy; zero-shot accuracies."""
    metrics = []
    for scores, linear in zip(found.scores, found.linear):
        task = scores.task
        metrics.append(
            _share_metric(f"recovered-share.{task}", scores, found.best, "heads on unit-length vectors")
        )
        metrics.append(
            _share_metric(
                f"linear-probe.recovered-share.{task}",
                linear,
                found.best,
                "linear probes on standardised vectors",
            )
        )
        for name, encoder, better in (
            ("target", TARGET, True),
            ("stolen", found.best, False),
            (UNTRAINED, UNTRAINED, None),
            (RANDOM, RANDOM, None),
        ):
            words = {
                "target": "TA: of the service, behind its defence if it has one",
                "stolen": "SA: of the copy",
                UNTRAINED: "of an untrained network; RA is the better of this and the next",
                RANDOM: "of a network trained on random vectors",
            }
            metrics.append(
                _metric(
                    f"accuracy.{name}.{task}",
                    scores.accuracy(encoder),
                    f"downstream test accuracy, {words[name]}",
                    better=better,
                    over=_OVER_RECORDS,
                )
            )
        metrics.append(
            _metric(
                f"ratio.{task}", scores.ratio(found.best, TARGET), "SA / TA", better=False, over=_OVER_RECORDS
            )
        )
        metrics.append(
            _metric(
                f"agreement.{task}",
                scores.agreement(found.best, TARGET),
                "share of test records that the heads on copy and original give the same class",
                better=False,
                over=_OVER_RECORDS,
            )
        )
    for shot in found.zero_shot:
        for who, hits in (("target", shot.target), ("stolen", shot.stolen)):
            interval = proportion_interval(int(hits.sum()), len(hits))
            metrics.append(
                Metric(
                    name=f"zero-shot.{who}.{shot.task}",
                    value=float(hits.mean()),
                    low=interval.low,
                    high=interval.high,
                    n=len(hits),
                    interval=interval.method,
                    higher_is_better=who == "target",
                    description=f"zero-shot accuracy of the {who} image tower with the target's text tower; chance is "
                    f"{1 / shot.classes:.2g}",
                )
            )
    return metrics


def similarity_metrics(found: Spoils) -> list[Metric]:
    """How alike the best copy's vectors are on held-out inputs."""
    alike = found.similarities[found.best]
    metrics = []
    if alike.cosine and alike.centred_cosine:
        metrics = [
            _metric(
                "cosine",
                alike.cosine,
                "mean cosine between vectors of copy and original",
                better=False,
                over=_OVER_INPUTS,
            ),
            _metric(
                "centred-cosine",
                alike.centred_cosine,
                "the same after taking each mean vector away",
                better=False,
                over=_OVER_INPUTS,
            ),
        ]
    metrics.append(
        Metric(
            name="cka",
            value=alike.cka,
            n=len(found.held),
            reason="no interval: one figure of the whole held-out set",
            higher_is_better=False,
            description="linear centred kernel alignment, 0..1",
        )
    )
    return metrics


def control_metrics(found: Spoils) -> list[Metric]:
    """What the permuted, planted and untrained copies came to."""
    metrics = []
    for scores in found.scores:
        share = scores.recovered(PERMUTED, TARGET, *FLOORS)
        if share is not None:
            metric = _metric(
                f"control.permuted.{scores.task}",
                share,
                "recovered share of a copy trained on shuffled vectors; must not be above 0.05",
                better=None,
                over=_OVER_RECORDS,
            )
            metrics.append(metric.model_copy(update={"control": True}))
    for name, alike in (("planted", found.planted), ("untrained", found.similarities[UNTRAINED])):
        if alike is not None and alike.centred_cosine is not None:
            said = {
                "planted": "centred cosine of a copy of a network of the surrogate's own kind; must be found",
                "untrained": "centred cosine of an untrained network with the original",
            }[name]
            metric = _metric(f"control.{name}", alike.centred_cosine, said, better=None, over=_OVER_INPUTS)
            metrics.append(metric.model_copy(update={"control": True}))
    return metrics


def probe_metrics(found: Spoils) -> list[Metric]:
    """What the first questions said of the service, and the calls that were paid for."""
    probe = found.probe
    said = [
        (
            "self-distance",
            probe.self_distance,
            "distance of two answers to one input; 0: always the same answer",
        ),
        ("spread", probe.spread, "distance of answers to two different inputs"),
    ]
    if probe.dimmed is not None:
        said.append(
            ("dimmed", probe.dimmed, "distance that halving the brightness of an image moves its vector")
        )
    metrics = [
        Metric(
            name=f"probe.{name}",
            value=value,
            n=probe.asked_twice,
            reason="no interval: a check of the service, not a finding",
            description=f"mean Euclidean {text}, of unit vectors",
        )
        for name, value, text in said
    ]
    if len(found.purchase):
        for name, count, text in (
            ("thief", found.thief_queries, "calls of the attack itself, probes included"),
            ("evaluation", found.evaluation_queries, "calls that only judge the copies, or make baselines"),
        ):
            metrics.append(
                Metric(
                    name=f"queries.{name}",
                    value=float(count),
                    unit="calls",
                    reason="no interval: a count",
                    higher_is_better=True if name == "thief" else None,
                    description=text,
                )
            )
    return metrics
