"""The spoils of a campaign as findings: the table of copies, curves, verdict; ``metrics`` has the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dosimeter.attacks.encoder_stealing.campaign import (
    FLOORS,
    PERMUTED,
    RANDOM,
    STOLEN,
    TARGET,
    UNTRAINED,
    Spoils,
)
from dosimeter.attacks.encoder_stealing.metrics import (
    control_metrics,
    probe_metrics,
    similarity_metrics,
    task_metrics,
)
from dosimeter.attacks.encoder_stealing.scoring import Share, TaskScores
from dosimeter.core.figures import IntervalRow, interval_bars, line
from dosimeter.core.method import Findings
from dosimeter.core.record_scores import RecordScores
from dosimeter.core.records import content_hash
from dosimeter.core.result import Figure, Table, Verdict

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_stealing.scoring import Similarity

#: Largest recovered share that a copy of shuffled vectors may be sure of; the bound of the published control.
_CONTROL_SHARE = 0.05
#: What tables and figures call the encoders, where the name alone would not say it.
_SHOWN = {
    TARGET: "original",
    STOLEN: "stolen copy",
    PERMUTED: "shuffled vectors",
    UNTRAINED: "untrained network",
    RANDOM: "random vectors",
    "adaptive": "copy that undoes the defence",
    "no-augmentation": "copy without augmentation",
    "conventional": "conventional copy",
    "contrastive": "contrastive copy (Cont-Steal)",
    "prototypes": "copy by prototypes (RDA)",
    "from-scratch": "from scratch, no calls",
}


def findings(found: Spoils) -> Findings:
    """What a report says of ``found``."""
    if found.probe.doubt:
        return Findings(
            verdict="undetermined",
            summary="Nothing was bought: the service's vectors tell inputs apart no better than chance.",
            reason=found.probe.doubt,
            metrics=probe_metrics(found),
        )
    shares = {scores.task: scores.recovered(found.best, TARGET, *FLOORS) for scores in found.scores}
    verdict, reason = _verdict(found, shares)
    return Findings(
        verdict=verdict,
        reason=reason,
        summary=_summary(found, shares),
        metrics=[
            *task_metrics(found),
            *similarity_metrics(found),
            *control_metrics(found),
            *probe_metrics(found),
        ],
        tables=[_copies_table(found), _curve_table(found)],
        figures=_figures(found),
        records=_records(found),
        limits=_limits(found),
        data_digests={
            "bought": found.purchase.digest,
            "held-out": content_hash(found.held),
            **{f"task {task.name}": task.test.digest for task in found.tasks},
        },
    )


def _verdict(found: Spoils, shares: dict[str, Share | None]) -> tuple[Verdict, str | None]:
    failed = _failed_control(found)
    if failed:
        return "undetermined", failed
    known = [share for share in shares.values() if share is not None]
    if not known:
        return "undetermined", (
            "on no task is the target, answering as it does, better than a network that learned nothing from it, so there is nothing to "
            "recover; give tasks that suit it, or see what a defence left of its vectors"
        )
    if max(share.low for share in known) > found.attack.tolerated:
        return "fail", None
    if max(share.high for share in known) <= found.attack.tolerated:
        return "pass", None
    return "undetermined", (
        f"the recovered share may lie on either side of the tolerated {found.attack.tolerated:g}; judge on more test records"
    )


def _failed_control(found: Spoils) -> str | None:
    for scores in found.scores:
        share = scores.recovered(PERMUTED, TARGET, *FLOORS)
        if share is not None and share.low > _CONTROL_SHARE:
            return (
                f"a copy trained on shuffled vectors recovers {share.value:.0%} on task {scores.task}, so the floor "
                "is no fair one there"
            )
    planted, permuted = found.planted, found.similarities[PERMUTED]
    if (
        planted
        and planted.centred_cosine
        and permuted.centred_cosine
        and planted.centred_cosine.low <= permuted.centred_cosine.high
    ):
        return "the attack did not even copy a network of its own kind; train longer or buy more"
    return None


def _summary(found: Spoils, shares: dict[str, Share | None]) -> str:
    known = {task: share for task, share in shares.items() if share is not None}
    best = found.copies[found.best]
    calls = f"{len(found.purchase):,} calls"
    price = f" ({found.price_per_call * len(found.purchase):,.2f} in money)" if found.price_per_call else ""
    if not known:
        return f"With {calls}{price} a copy was made, but no task tells what it is worth."
    task, share = max(known.items(), key=lambda pair: pair[1].value)
    scores = next(scores for scores in found.scores if scores.task == task)
    how = "" if found.best == STOLEN else f" ({_SHOWN[found.best]})"
    return (
        f"With {calls}{price} a thief gets a copy{how} that reaches {scores.accuracy(found.best).value:.0%} on {task}, "
        f"where the service reaches {scores.accuracy(TARGET).value:.0%} and a network that learned nothing from it "
        f"{scores.accuracy(scores.floor(*FLOORS)).value:.0%}: {_worth(share)}."
        + ("" if best.queries else " It asked nothing.")
    )


def _worth(share: Share) -> str:
    if share.low > 1:
        return "more than the service gives its honest users"
    if share.value <= 0:
        return "nothing of what the encoder is worth"
    return f"{min(share.value, 1):.0%} of what the encoder is worth"


def _copies_table(found: Spoils) -> Table:
    columns = ["encoder", "calls", "cosine", "centred cosine", "CKA"]
    for scores in found.scores:
        columns += [f"{scores.task}: {what}" for what in ("accuracy", "recovered", "linear probe")]
    rows = []
    for name in (TARGET, *found.copies):
        alike = found.similarities.get(name)
        copy = found.copies.get(name)
        row: list[object] = [_SHOWN[name], copy.queries if copy else None, *_alike_cells(alike)]
        for scores, linear in zip(found.scores, found.linear):
            share = scores.recovered(name, TARGET, *FLOORS)
            row += [scores.accuracy(name).value, share and share.value, linear.accuracy(name).value]
        rows.append(row)
    return Table(
        name="copies",
        title="Copies beside the original",
        columns=columns,
        rows=rows,
        caption="How alike each is to the original on held-out inputs, and what heads trained on it reach. Accuracy: heads of "
        "one shape, start and schedule on unit-length vectors; linear probe: on standardised ones. Recovered: 0 is the "
        "network that learned nothing from the service, the floor; 1 the original. The copy from shuffled vectors is a control that must recover nothing.",
    )


def _alike_cells(alike: Similarity | None) -> list[object]:
    if alike is None:
        return [None, None, None]
    return [
        alike.cosine.value if alike.cosine else None,
        alike.centred_cosine.value if alike.centred_cosine else None,
        alike.cka,
    ]


def _curve_table(found: Spoils) -> Table:
    return Table(
        name="price",
        title="Price curve",
        columns=["calls", "money", "cosine", "centred cosine", "CKA"],
        rows=[[point.queries, point.money, *_alike_cells(point.similarity)] for point in found.curve],
        caption="A copy per budget."
        + (" Buying stopped: the last purchase brought too little." if found.stopped else ""),
    )


def _figures(found: Spoils) -> list[Figure]:
    figures = []
    for scores in found.scores:
        rows: list[IntervalRow] = []
        for name in (TARGET, *found.copies):
            share = scores.accuracy(name)
            group = "original" if name == TARGET else "control" if name in (PERMUTED, *FLOORS) else "copy"
            rows.append(
                {
                    "label": _SHOWN[name],
                    "value": share.value,
                    "low": share.low,
                    "high": share.high,
                    "group": group,
                }
            )
        figures.append(
            interval_bars(
                f"accuracy-{scores.task}",
                f"What each encoder is good for on {scores.task}",
                f"Share of {scores.task} test records that heads on each encoder get right, with 95 % intervals over test "
                "records. The closer a copy comes to the original, the more a thief has; what a network that learned nothing from the service reaches is "
                "not theft.",
                rows,
                x_title="test accuracy",
            )
        )
    with_cosines = [point for point in found.curve if point.similarity.centred_cosine]
    if len(with_cosines) > 1:
        calls = [point.queries for point in with_cosines]
        alike = [p.similarity.centred_cosine.value for p in with_cosines if p.similarity.centred_cosine]
        figures.append(
            line(
                "price-curve",
                "How alike the copy is, by what it cost",
                "Centred cosine of the vectors of copy and original on inputs that were not bought: 1 is the same, 0 nothing in "
                "common. Where the curve is flat, further calls buy little.",
                {"copy": (calls, alike)},
                x_title="calls bought",
                y_title="centred cosine",
                x_scale="log",
            )
        )
    return figures


def _records(found: Spoils) -> list[RecordScores]:
    records = [
        RecordScores.of(
            scores.keys,
            {
                f"accuracy.target.{scores.task}": scores.correct(TARGET),
                f"accuracy.stolen.{scores.task}": scores.correct(found.best),
                f"agreement.{scores.task}": _agreeing(scores, found.best),
            },
        )
        for scores in found.scores
    ]
    alike = found.similarities[found.best]
    if alike.centred_cosine is not None:
        records.append(RecordScores.of(found.held, {"centred-cosine": alike.per_input}))
    return records


def _agreeing(scores: TaskScores, best: str) -> np.ndarray:
    first, second = (scores.predictions[scores.names.index(name)] for name in (best, TARGET))
    agreeing: np.ndarray = (first == second).mean(0)
    return agreeing


def _limits(found: Spoils) -> list[str]:
    limits = [
        "A thief with other images, another architecture or more patience may do better; the figures are a lower bound.",
        "The floor depends on the protocol: linear probes on standardised vectors make more of an untrained network than heads "
        "on unit-length ones do, and the recovered share with it.",
    ]
    if found.defense:
        limits.append(f"In the vectors there are traces of a defence: {found.defense}.")
    if found.overlap:
        limits.append(f"{found.overlap} public inputs were left out, since a task tests on them.")
    if found.probe.self_distance > 1e-4:
        limits.append(
            f"The service does not repeat itself: two answers to one input are {found.probe.self_distance:.2g} apart."
        )
    return limits
