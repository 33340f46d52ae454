"""Relations measured alike at both sizes: naming, silence, agreement, and the controls that must fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.attack_sets import AttackSet
from dosimeter.attacks.encoder_inference.decision import Decision, decide
from dosimeter.attacks.encoder_inference.presentation import Investigation, Prepared
from dosimeter.core.claim import Claim, Relation
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.progress import track
from dosimeter.core.records import Batch, take
from dosimeter.core.target import Target
from dosimeter.stats.intervals import cluster_bootstrap, proportion_interval

PAPER_TAU = 1.7
_NOISE_DRAWS = 20


@dataclass(frozen=True)
class Service:
    """A service to attack; ``hidden`` names the encoder it runs on (empty: none of the candidates)."""

    name: str
    target: Target
    hidden: str = ""


@dataclass(frozen=True)
class Measured:
    """One service, attacked: the full investigation, and what each of the two rules says."""

    service: Service
    found: Investigation
    by_z: Decision
    by_grubbs: Decision


def attack_services(
    attack: EncoderInference, prepared: Prepared, services: Sequence[Service], context: Context, *, task: str
) -> list[Measured]:
    """Attack every service with what was prepared once."""
    measured = []
    with track(task, len(services)) as bar:
        for service in services:
            found = attack.investigate(Oracle(service.target), context, prepared)
            by_z = found.decision
            if found.inference.rows:
                by_z = decide(
                    found.inference.per_objective,
                    prepared.candidates,
                    rule="z",
                    alpha=0.05,
                    tau=PAPER_TAU,
                    generator=context.rng("bootstrap"),
                )
            measured.append(Measured(service, found, by_z, found.decision))
            bar.advance()
    return measured


def attack_without_hidden(
    attack: EncoderInference, services: Sequence[Service], context: Context, *, task: str
) -> list[Measured]:
    """Attack every service with the right candidate taken out first."""
    measured = []
    for hidden in dict.fromkeys(service.hidden for service in services):
        among = tuple(candidate for candidate in attack.candidates if candidate.name != hidden)
        smaller = attack.model_copy(update={"candidates": among})
        those = [service for service in services if service.hidden == hidden]
        measured += attack_services(
            smaller, smaller.prepare(context), those, context, task=f"{task}: {hidden}"
        )
    return measured


def in_set_claims(measured: Sequence[Measured]) -> list[Claim]:
    """Relations 1 and 4: the hidden encoder is named, nobody else is; its samples agree, those of others do not."""
    n = len(measured)
    right_z = sum(m.by_z.named == m.service.hidden for m in measured)
    wrong_z = sum(m.by_z.named not in (None, m.service.hidden) for m in measured)
    right_g = sum(m.by_grubbs.named == m.service.hidden for m in measured)
    wrong_g = sum(_wrong(m, m.by_grubbs) for m in measured)
    own, others = agreements(measured)
    least = 10 if n == 12 else int(np.ceil(10 / 12 * n))
    return [
        _count(
            "named-z",
            f"services whose hidden encoder is named with z > {PAPER_TAU}, of {n}",
            right_z,
            n,
            ">=",
            least,
        ),
        _count("misnamed-z", f"services named wrongly with z > {PAPER_TAU}, of {n}", wrong_z, n, "<=", 0),
        _count(
            "named-grubbs",
            f"services whose hidden encoder is named at family-wise error 5 %, of {n}",
            right_g,
            n,
            ">=",
            least,
        ),
        _count(
            "misnamed-grubbs", f"services named wrongly at family-wise error 5 %, of {n}", wrong_g, n, "<=", 0
        ),
        mean_claim(
            "self-agreement", "score of the hidden encoder's samples, mean over services", own, ">=", 0.7
        ),
        mean_claim(
            "cross-agreement", "score of the other candidates' samples, mean over services", others, "<=", 0.4
        ),
    ]


def out_of_set_claims(measured: Sequence[Measured]) -> list[Claim]:
    """Relation 2: with the hidden encoder taken out, almost nobody is accused. Relatives are counted apart."""
    n = len(measured)
    kin = {c.name: c.kin for m in measured for c in m.found.prepared.candidates}
    strangers_z = sum(m.by_z.named is not None and not _is_relative(m, m.by_z, kin) for m in measured)
    relatives_z = sum(_is_relative(m, m.by_z, kin) for m in measured)
    strangers_g = sum(
        m.by_grubbs.named is not None and not _is_relative(m, m.by_grubbs, kin) for m in measured
    )
    relatives_g = sum(_is_relative(m, m.by_grubbs, kin) for m in measured)
    return [
        _count(
            "out-of-set-z",
            f"unrelated encoders accused with z > {PAPER_TAU} when the hidden one is not a candidate, of {n} "
            f"(relatives accused: {relatives_z})",
            strangers_z,
            n,
            "<=",
            2,
            control=True,
        ),
        _count(
            "out-of-set-grubbs",
            f"the same at family-wise error 5 %, of {n} (relatives accused: {relatives_g})",
            strangers_g,
            n,
            "<=",
            1,
            control=True,
        ),
    ]


def agreements(measured: Sequence[Measured]) -> tuple[list[float], list[float]]:
    """Per service: the score of the hidden encoder's samples, and the mean score of the other candidates'."""
    own, others = [], []
    for m in measured:
        right = [c.name for c in m.found.prepared.candidates].index(m.service.hidden)
        rows = m.found.inference.rows
        scores = (
            m.found.inference.per_objective.mean(axis=0)
            if rows
            else np.zeros(len(m.found.prepared.candidates))
        )
        own.append(float(scores[right]))
        others.append(float(np.delete(scores, right).mean()))
    return own, others


def untrained_claim(measured: Sequence[Measured]) -> Claim:
    """Control: services on encoders that were never trained match no candidate.

    At a family-wise error of 5 % more than two of twelve happen by chance in 2 % of cases (binomial).
    """
    n = len(measured)
    accused = sum(m.by_grubbs.named is not None for m in measured)
    return _count(
        "untrained-service",
        f"services on an untrained encoder that are matched to a candidate, of {n}",
        accused,
        n,
        "<=",
        2,
        control=True,
    )


def noise_claims(measured: Sequence[Measured], context: Context) -> list[Claim]:
    """Control: noise in place of attack samples (0 steps, other noise for each candidate) accuses nobody.

    Once per service, as specified, and as a share over many draws: six candidates pass z > 1.7 by chance in 12 % of
    cases, so that a single draw for each of twelve services goes above two in one run of six.
    """
    once = sum(_accused_by_noise(m, context, m.service.name) for m in measured)
    n = len(measured) * _NOISE_DRAWS
    accused = sum(
        _accused_by_noise(m, context, f"{m.service.name}-{draw}")
        for m in measured
        for draw in range(_NOISE_DRAWS)
    )
    interval = proportion_interval(accused, n)
    return [
        _count(
            "noise-samples",
            f"services accused by noise that was not optimised, of {len(measured)}",
            once,
            len(measured),
            "<=",
            2,
            control=True,
        ),
        Claim(
            name="noise-share",
            statement=f"share of {n} attacks with noise that was not optimised that accuse somebody",
            value=accused / n,
            relation="<=",
            bound=2 / 12,
            low=interval.low,
            high=interval.high,
            control=True,
        ),
    ]


def _accused_by_noise(m: Measured, context: Context, place: str) -> bool:
    prepared = m.found.prepared
    noise = [
        _noise_like(attack_set, context, f"{place}-{number}")
        for number, attack_set in enumerate(prepared.sets)
    ]
    table = _agreement_table(m, noise, np.arange(len(prepared.objectives)))
    decision = decide(
        table, prepared.candidates, rule="z", alpha=0.05, tau=PAPER_TAU, generator=context.rng("noise")
    )
    return decision.named is not None


def shuffled_claim(measured: Sequence[Measured], context: Context) -> Claim:
    """Control: against another objective than its own, a sample agrees as often as two objectives do."""
    gaps = []
    for m in measured:
        count = len(m.found.prepared.objectives)
        shift = int(context.rng("shuffle", m.service.name).integers(1, count))
        other = (np.arange(count) + shift) % count
        right = [c.name for c in m.found.prepared.candidates].index(m.service.hidden)
        table = _agreement_table(m, [s.samples for s in m.found.prepared.sets], other)
        labels = Oracle(m.service.target).labels(m.found.prepared.objectives)
        gaps.append(float(table[:, right].mean() - (labels == labels[other]).mean()))
    low, high = cluster_bootstrap(np.abs(gaps)[:, None], context.rng("shuffled-interval"))
    return Claim(
        name="shuffled-objectives",
        statement="distance of the right candidate's score from chance when objectives are shuffled, mean over services",
        value=float(np.mean(np.abs(gaps))),
        relation="<=",
        # Ten objectives, five copies each: a binomial share around chance has a standard error of about 0.07.
        bound=0.1,
        low=float(low[0]),
        high=float(high[0]),
        control=True,
    )


def loss_claim(name: str, statement: str, sets: Sequence[AttackSet], bound: float) -> Claim:
    """Relation 3: synthesis cuts the loss; the worst candidate counts."""
    ratios = [float(s.losses.mean() / s.start_losses.mean()) for s in sets]
    return Claim(name, statement, max(ratios), "<=", bound, low=min(ratios), high=max(ratios))


def mean_claim(
    name: str,
    statement: str,
    values: Sequence[float] | np.ndarray,
    relation: Relation,
    bound: float,
    *,
    control: bool = False,
) -> Claim:
    """A claim about the mean of ``values``, one per service, with its bootstrap interval over services."""
    low, high = cluster_bootstrap(np.asarray(values)[:, None], np.random.default_rng(0))
    value = float(np.mean(values))
    return Claim(
        name, statement, value, relation, bound, low=float(low[0]), high=float(high[0]), control=control
    )


def _wrong(m: Measured, decision: Decision) -> bool:
    right = [c.kin for c in m.found.prepared.candidates if c.name == m.service.hidden]
    return decision.named not in (None, m.service.hidden, *right)


def _is_relative(m: Measured, decision: Decision, kin: dict[str, str]) -> bool:
    family = kin.get(m.service.hidden)
    return decision.named is not None and family in (decision.named, kin.get(decision.named))


def _agreement_table(m: Measured, samples: Sequence[Batch], against: np.ndarray) -> np.ndarray:
    """(objectives, candidates) share of copies labelled like the objective ``against[j]``."""
    oracle = Oracle(m.service.target)
    labels = oracle.labels(take(m.found.prepared.objectives, against))[:, None]
    return np.stack(
        [(oracle.labels(batch).reshape(len(labels), -1) == labels).mean(axis=1) for batch in samples], axis=1
    )


def _noise_like(attack_set: AttackSet, context: Context, place: str) -> np.ndarray:
    return context.rng("noise", place).integers(
        256, size=np.asarray(attack_set.samples).shape, dtype=np.uint8
    )


def _count(
    name: str, statement: str, hits: int, n: int, relation: Relation, bound: int, *, control: bool = False
) -> Claim:
    interval = proportion_interval(hits, n)
    return Claim(
        name,
        statement,
        hits,
        relation,
        bound,
        low=interval.low * n,
        high=interval.high * n,
        control=control,
    )
