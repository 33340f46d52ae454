"""The attack's outcome as findings: a sentence, metrics with intervals, and the ``exhibits``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dosimeter.attacks.encoder_inference.attack_sets import AttackSet
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.controls import Controls
from dosimeter.attacks.encoder_inference.decision import Decision
from dosimeter.attacks.encoder_inference.exhibits import candidate_table, figures, objective_tables
from dosimeter.attacks.encoder_inference.inference import Inference
from dosimeter.core.method import Findings
from dosimeter.core.record_scores import RecordScores
from dosimeter.core.records import Batch, content_hash, take
from dosimeter.core.result import Metric, Verdict
from dosimeter.stats.intervals import proportion_interval

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_inference.attack import EncoderInference

_BOOTSTRAP = "percentile bootstrap over objectives, 95%"
_LIMITS = [
    "A named encoder is the best match among the candidates; an encoder outside the list that behaves alike cannot be told from it.",
    "Silence is not proof: a service that resizes or normalises differently from the candidates hides its encoder from this attack.",
    "The error of the decision is stated for scores that scatter normally when no candidate is right.",
]


@dataclass(frozen=True)
class Prepared:
    """What the attacker made before asking the service.

    Attributes:
        candidates: those judged, decoys included; ``sets`` and the columns of all tables follow their order.
        objectives: the objective inputs, a batch of the candidates' modality.
    """

    candidates: tuple[Candidate, ...]
    objectives: Batch
    sets: list[AttackSet]
    controls: Controls


@dataclass(frozen=True)
class Investigation:
    """What the attack made, asked and learned."""

    prepared: Prepared
    inference: Inference
    decision: Decision


def present(attack: EncoderInference, found: Investigation) -> Findings:
    """Everything the attack learned, ready for a result."""
    prepared, decision, inference = found.prepared, found.decision, found.inference
    candidates, sets, controls = prepared.candidates, prepared.sets, prepared.controls
    verdict, summary, reason = _verdict(decision, controls, attack)
    doubt = reason if verdict == "undetermined" else None
    return Findings(
        verdict=verdict,
        summary=summary,
        reason=reason,
        metrics=_metrics(decision, controls, inference, candidates, sets, in_doubt=doubt),
        records=_per_objective(prepared, inference, decision),
        tables=[candidate_table(decision, candidates, sets), *objective_tables(inference, candidates)],
        figures=figures(decision, inference, candidates, sets, prepared.objectives),
        limits=_limits(controls, attack),
        candidate_queries=sum(attack_set.queries for attack_set in sets) + controls.queries,
        data_digests={"objectives": content_hash(prepared.objectives)},
    )


def _per_objective(prepared: Prepared, inference: Inference, decision: Decision) -> list[RecordScores]:
    """The scores that are means over the objectives asked, where there are any."""
    if decision.z is None or decision.threshold is None:
        return []
    table = inference.per_objective
    values = {f"score.{candidate.name}": column for candidate, column in zip(prepared.candidates, table.T)}
    values["top-score"] = table[:, int(np.argmax(decision.z))]
    return [RecordScores.of(take(prepared.objectives, inference.asked), values)]


def _verdict(
    decision: Decision, controls: Controls, attack: EncoderInference
) -> tuple[Verdict, str, str | None]:
    error = (
        f"family-wise error {attack.alpha:.0%}"
        if attack.rule == "grubbs"
        else f"threshold z > {attack.tau:g}"
    )
    if decision.kind == "undecidable":
        return "undetermined", "Whether the encoder can be named could not be decided.", decision.reason
    if not controls.ok and not (decision.named is None and controls.planted == 0):
        named = (
            f" The attack named '{decision.named}', but that cannot be relied on." if decision.named else ""
        )
        return (
            "undetermined",
            f"The attack failed its own controls, so its answer does not count.{named}",
            f"{_control_sentence(controls)}; more objectives, copies or synthesis steps may help",
        )
    if decision.kind == "identified":
        return "fail", f"An outsider can tell that this service runs on '{decision.named}' ({error}).", None
    if decision.kind == "family":
        return (
            "fail",
            f"An outsider can tell that this service runs on an encoder of the family '{decision.named}' ({error}).",
            None,
        )
    if controls.planted == 0:
        return (
            "undetermined",
            "No candidate could be named, and no control could show that the attack works.",
            f"{_control_sentence(controls)}; add candidates that can embed new inputs",
        )
    return (
        "pass",
        f"No candidate encoder stands out: the attack cannot name the encoder behind this service ({error}).",
        None,
    )


def _control_sentence(controls: Controls) -> str:
    return (
        f"of {controls.planted} local services built on the candidates {controls.planted_named} were named rightly and "
        f"{controls.planted_wrong} wrongly; of {controls.null} on an untrained encoder {controls.null_accused} were given a name"
    )


def _metrics(
    decision: Decision,
    controls: Controls,
    inference: Inference,
    candidates: Sequence[Candidate],
    sets: Sequence[AttackSet],
    *,
    in_doubt: str | None,
) -> list[Metric]:
    why = decision.reason if decision.kind == "undecidable" else None
    n = len(inference.rows)
    decided = decision.z is not None and decision.threshold is not None
    top = int(np.argmax(decision.z)) if decision.z is not None else 0
    metrics = [
        Metric(
            name="identified",
            # What the attack says is no measurement where its controls failed.
            value=None if in_doubt else float(decision.kind in ("identified", "family")),
            reason=in_doubt or "a decision, not an estimate; the error of the rule is in the summary",
            n=n,
            higher_is_better=False,
            description="1 if the encoder or its family was named, 0 if not",
        ),
        Metric(
            name="top-score",
            value=float(decision.scores[top]) if decided else None,
            low=float(decision.low[top]) if decided else None,
            high=float(decision.high[top]) if decided else None,
            interval=_BOOTSTRAP,
            n=n,
            reason=why,
            higher_is_better=False,
            description="PEI score of the best candidate" + (f", {candidates[top].name}" if decided else ""),
        ),
        Metric(
            name="top-z",
            value=float(decision.z.max()) if decision.z is not None else None,
            n=len(candidates),
            reason=why or "a standard score among the candidates has no interval of its own",
            higher_is_better=False,
            description="standard score, among the candidates, of the best one",
        ),
        Metric(
            name="grubbs-p",
            value=decision.grubbs_p,
            n=len(candidates),
            reason=why or "a p-value has no interval",
            higher_is_better=True,
            description="family-wise p-value of the best candidate's score",
        ),
        Metric(
            name="margin",
            value=decision.margin if decided else None,
            n=n,
            reason=why or f"one-sided lower limit {decision.margin_low:.3g} at the decision's error",
            higher_is_better=False,
            description="what the rule tests: best candidate minus the next",
        ),
        Metric(
            name="reference-p",
            value=decision.reference_p,
            n=len(controls.reference.tables),
            reason=why
            or (
                "reference services answer labels, and the rule in use compares something else or nothing"
                if decision.reference_p is None
                else "a p-value has no interval"
            ),
            higher_is_better=True,
            description="share of reference services on which some candidate leads by as much",
        ),
        Metric(
            name="base-rate",
            value=inference.base_rate,
            n=n or len(inference.checks.base_rate),
            reason="a mean over fixed objectives",
            description="score that inputs made of noise reach on the objectives asked",
        ),
    ]
    metrics += [
        Metric(
            name=f"score.{candidate.name}",
            value=float(decision.scores[index]) if decided else None,
            low=float(decision.low[index]) if decided else None,
            high=float(decision.high[index]) if decided else None,
            interval=_BOOTSTRAP,
            n=n,
            reason=why,
            higher_is_better=False,
        )
        for index, candidate in enumerate(candidates)
    ]
    metrics += _service_metrics(inference)
    metrics += _control_metrics(controls)
    ratio = [float(s.losses.mean() / s.start_losses.mean()) for s in sets if s.start_losses.mean() > 0]
    if ratio:
        metrics.append(
            Metric(
                name="synthesis-loss-ratio",
                value=float(np.mean(ratio)),
                low=min(ratio),
                high=max(ratio),
                interval="least and greatest candidate",
                n=len(ratio),
                description="loss of the attack samples over that of their random starts, mean over candidates",
            )
        )
    return metrics


def _service_metrics(inference: Inference) -> list[Metric]:
    metrics = []
    determinism = inference.checks.determinism
    if determinism is not None:
        interval = proportion_interval(determinism.disagreeing, determinism.n)
        metrics.append(
            Metric(
                name="self-disagreement",
                value=determinism.rate,
                low=interval.low,
                high=interval.high,
                interval=interval.method,
                n=determinism.n,
                description="share of objectives that the service answered differently when asked again",
            )
        )
    if inference.dropped:
        interval = proportion_interval(inference.dropped, inference.compared)
        metrics.append(
            Metric(
                name="dropped-replies",
                value=inference.dropped / inference.compared,
                low=interval.low,
                high=interval.high,
                interval=interval.method,
                n=inference.compared,
                description="share of answers that could not be read",
            )
        )
    return metrics


def _control_metrics(controls: Controls) -> list[Metric]:
    counted = [
        (
            "control.planted-named",
            controls.planted_named,
            controls.planted,
            "local services on a candidate that were named rightly",
        ),
        (
            "control.planted-wrong",
            controls.planted_wrong,
            controls.planted,
            "local services on a candidate that were named wrongly",
        ),
        (
            "control.null-accused",
            controls.null_accused,
            controls.null,
            "local services on an untrained encoder that were given a name",
        ),
    ]
    metrics = []
    for name, hits, n, description in counted:
        if n == 0:
            metrics.append(
                Metric(name=name, value=None, reason="no candidate can embed new inputs", control=True, n=0)
            )
            continue
        interval = proportion_interval(hits, n)
        metrics.append(
            Metric(
                name=name,
                value=hits / n,
                low=interval.low,
                high=interval.high,
                interval=interval.method,
                n=n,
                control=True,
                description=description,
            )
        )
    return metrics


def _limits(controls: Controls, attack: EncoderInference) -> list[str]:
    limits = list(_LIMITS)
    if attack.rule == "z":
        limits[-1] = (
            "A fixed threshold accuses more often the more candidates there are: in 3 % of cases for 5 candidates, 24 % for 8."
        )
    if controls.skipped:
        limits.append(
            f"No local control for candidates known only by recorded embeddings: {', '.join(controls.skipped)}."
        )
    return limits
