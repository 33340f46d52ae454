"""What each defence takes from honest users beside what it takes from a thief, where an attack measures both.

An attack does so with metrics ``accuracy.target.<task>``, what honest users keep, and ``accuracy.stolen.<task>``, what a
thief gets. Losses are against the cell without defence of the same seed, and paired by record where both cells keep
values per record. Does not own: the tests (``stats.paired``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dosimeter.core.figures import ScatterPoint, scatter
from dosimeter.core.result import Figure, Metric, Result
from dosimeter.core.seeding import rng
from dosimeter.stats.paired import compare_means, compare_pairs
from dosimeter.study.outcome import CellOutcome

#: Losses are in points: hundredths of all answers.
_POINTS = 100
KEPT, TAKEN = "accuracy.target.", "accuracy.stolen."
Useful = Literal["yes", "no", "cannot be told"]
_NO_RECORDS = "no values per record, so no interval of the difference"


@dataclass(frozen=True)
class TradeoffRow:
    """One defended cell: losses against no defence in points, and their difference, the thief's minus the honest users'."""

    number: int
    done: CellOutcome
    honest: Metric
    thief: Metric
    gap: Metric

    @property
    def useful(self) -> Useful:
        """Whether the thief loses more than honest users do, chance aside where it is known."""
        if self.gap.low is None or self.gap.high is None:
            return "cannot be told"
        return "yes" if self.gap.low > 0 else "no" if self.gap.high <= 0 else "cannot be told"


@dataclass(frozen=True)
class Tradeoff:
    """All defences against one attack, judged on one task."""

    task: str
    rows: list[TradeoffRow]
    figure: Figure


def tradeoffs(cells: Sequence[tuple[int, CellOutcome]]) -> list[Tradeoff]:
    """One trade-off per task that an attack measured with and without defences.

    Args:
        cells: of one attack, each with its number in the report. Cells that measured less, or whose seed has no cell
            without defence, are left out.
    """
    undefended = {done.cell.seed: done.result for _, done in cells if done.cell.defense == "none"}
    tasks = dict.fromkeys(
        metric.name.removeprefix(KEPT)
        for _, done in cells
        for metric in done.result.metrics
        if metric.name.startswith(KEPT)
    )
    found = []
    for task in tasks:
        rows = [
            row
            for number, done in cells
            if done.cell.defense != "none"
            and done.cell.seed in undefended
            and (row := _row(task, number, done, undefended[done.cell.seed])) is not None
        ]
        if rows:
            found.append(Tradeoff(task, rows, _figure(task, rows)))
    return found


def _row(task: str, number: int, done: CellOutcome, undefended: Result) -> TradeoffRow | None:
    honest = _loss(KEPT + task, "loss of honest users", undefended, done.result)
    thief = _loss(TAKEN + task, "loss of the thief", undefended, done.result)
    if honest is None or thief is None:
        return None
    return TradeoffRow(number, done, honest, thief, _gap(task, honest, thief, undefended, done.result))


def _loss(name: str, said: str, undefended: Result, defended: Result) -> Metric | None:
    without, behind = _value(undefended, name), _value(defended, name)
    if without is None or behind is None:
        return None
    pairs = _shared([(defended, name), (undefended, name)])
    if pairs is None:
        return Metric(name=said, value=round(_POINTS * (without - behind), 2), reason=_NO_RECORDS)
    found = compare_pairs(pairs[0], pairs[1], rng(0, "tradeoff", name))
    return _measured(said, found.difference, found.low, found.high, found.n, found.interval)


def _gap(task: str, honest: Metric, thief: Metric, undefended: Result, defended: Result) -> Metric:
    """The thief's loss minus the honest users', record by record where that is possible."""
    assert honest.value is not None and thief.value is not None
    said = "thief's loss minus honest users'"
    columns = _shared(
        [
            (undefended, TAKEN + task),
            (defended, TAKEN + task),
            (undefended, KEPT + task),
            (defended, KEPT + task),
        ]
    )
    if columns is None:
        return Metric(name=said, value=round(thief.value - honest.value, 2), reason=_NO_RECORDS)
    stolen, stolen_behind, kept, kept_behind = columns
    differences = (stolen - stolen_behind) - (kept - kept_behind)
    found = compare_means(differences, rng(0, "tradeoff-gap", task))
    return _measured(said, found.difference, found.low, found.high, found.n, found.interval)


def _measured(name: str, value: float, low: float, high: float, n: int, how: str) -> Metric:
    bounded = math.isfinite(low) and math.isfinite(high)
    return Metric(
        name=name,
        value=round(_POINTS * value, 2),
        low=round(_POINTS * low, 2) if bounded else None,
        high=round(_POINTS * high, 2) if bounded else None,
        n=n,
        interval=how if bounded else None,
        reason=None if bounded else "too few records for an interval",
    )


def _value(result: Result, name: str) -> float | None:
    return next((metric.value for metric in result.metrics if metric.name == name), None)


def _shared(columns: Sequence[tuple[Result, str]]) -> list[np.ndarray] | None:
    """Each metric of each result on the records that all of them have, in one order; ``None`` where one keeps none."""
    found: list[dict[str, float]] = []
    for result, name in columns:
        scores = next((scores for scores in result.records if name in scores.values), None)
        if scores is None:
            return None
        found.append(dict(zip(scores.keys, scores.values[name])))
    keys = sorted(set.intersection(*(set(column) for column in found)))
    return [np.array([column[key] for key in keys]) for column in found] if keys else None


def _figure(task: str, rows: list[TradeoffRow]) -> Figure:
    points: list[ScatterPoint] = []
    for row in rows:
        assert row.honest.value is not None and row.thief.value is not None
        points.append(
            {
                "label": row.done.cell.defense,
                "x": row.honest.value,
                "y": row.thief.value,
                "x_low": row.honest.low,
                "x_high": row.honest.high,
                "y_low": row.thief.low,
                "y_high": row.thief.high,
            }
        )
    attack = rows[0].done.cell.attack
    return scatter(
        f"tradeoff-{attack}-{task}",
        f"What each defence takes on {task}: from honest users, and from a thief",
        "Loss of accuracy against no defence in points (hundredths of all answers), with 95 % intervals. A defence is useful above "
        "the dotted line only, where a thief loses more than honest users do; below it, it does more harm than good.",
        points,
        x_title="honest users lose, points",
        y_title="a thief loses, points",
        diagonal="useful above the line only",
    )
