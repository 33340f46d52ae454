"""The spoils of a campaign as findings: the table of copies, curves, verdict; ``metrics`` has the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dosimeter.attacks.encoder_stealing.campaign import PERMUTED, STOLEN, TARGET, UNTRAINED, Spoils
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


def findings(found: Spoils) -> Findings:
    """What a report says of ``found``."""
    if found.probe.doubt:
        return Findings(
            verdict="undetermined",
            summary="Nothing was bought: the service's vectors tell inputs apart no better than chance.",
            reason=found.probe.doubt,
            metrics=probe_metrics(found),
        )
    shares = {scores.task: scores.recovered(found.best, TARGET, UNTRAINED) for scores in found.scores}
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
            "on no task is the target, answering as it does, better than an untrained network, so there is nothing to "
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
        share = scores.recovered(PERMUTED, TARGET, UNTRAINED)
        if share is not None and share.low > _CONTROL_SHARE:
            return (
                f"a copy trained on shuffled vectors recovers {share.value:.0%} on task {scores.task}, so the untrained "
                "network is no fair floor there"
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
    how = "" if found.best == STOLEN else f" ({found.best})"
    return (
        f"With {calls}{price} a thief gets a copy{how} that reaches {scores.accuracy(found.best).value:.0%} on {task}, "
        f"where the original reaches {scores.accuracy(TARGET).value:.0%} and an untrained network "
        f"{scores.accuracy(UNTRAINED).value:.0%}: {share.value:.0%} of what the encoder is worth."
        + ("" if best.queries else " It asked nothing.")
    )


def _copies_table(found: Spoils) -> Table:
    columns = ["encoder", "calls", "cosine", "centred cosine", "CKA"]
    for scores in found.scores:
        columns += [f"{scores.task}: {what}" for what in ("accuracy", "recovered", "linear probe")]
    rows = []
    for name in (TARGET, *found.copies):
        alike = found.similarities.get(name)
        copy = found.copies.get(name)
        row: list[object] = [name, copy.queries if copy else None, *_alike_cells(alike)]
        for scores, linear in zip(found.scores, found.linear):
            share = scores.recovered(name, TARGET, UNTRAINED)
            row += [scores.accuracy(name).value, share and share.value, linear.accuracy(name).value]
        rows.append(row)
    return Table(
        name="copies",
        title="Copies beside the original",
        columns=columns,
        rows=rows,
        caption="Heads of one shape, start and schedule on unit-length vectors; linear probes on standardised ones. 'untrained' is the floor, 'permuted' a control.",
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
            group = "original" if name == TARGET else "control" if name in (PERMUTED, UNTRAINED) else "copy"
            rows.append(
                {"label": name, "value": share.value, "low": share.low, "high": share.high, "group": group}
            )
        figures.append(
            interval_bars(
                f"accuracy-{scores.task}",
                f"{scores.task}: accuracy of heads on each encoder",
                f"Test accuracy on {scores.task} of the original, the copies and the controls, with 95 % intervals over test records.",
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
                "Centred cosine of copy and original on held-out inputs, for each number of calls.",
                {"copy": (calls, alike)},
                x_title="calls",
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
        "The floor depends on the protocol: heads that see standardised vectors make more of an untrained network.",
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
