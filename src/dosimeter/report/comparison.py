"""Defences side by side: the figures of one attack under each of them."""

from __future__ import annotations

from dataclasses import dataclass

from dosimeter.core.figures import IntervalRow, ReferenceLine, interval_bars
from dosimeter.core.result import Figure, Metric
from dosimeter.report.tradeoff import Tradeoff, tradeoffs
from dosimeter.report.wording import RELATION_SIGNS
from dosimeter.study.outcome import CellOutcome, PolicyFinding, StudyOutcome

_MOST_METRICS = 4
_MOST_BARS = 40


@dataclass(frozen=True)
class ComparisonRow:
    """One cell; ``metrics`` in the order of the comparison's names, ``None`` where the cell lacks it."""

    number: int
    done: CellOutcome
    metrics: list[Metric | None]


@dataclass(frozen=True)
class Comparison:
    """One attack under several defences. ``figure`` shows the first metric that has values, if any has; ``tradeoffs`` are
    there where the attack measures what honest users lose as well.
    """

    title: str
    names: list[str]
    rows: list[ComparisonRow]
    figure: Figure | None
    tradeoffs: list[Tradeoff]


def compare_defenses(outcome: StudyOutcome) -> list[Comparison]:
    """One comparison per attack that was run under two or more defences (none counts as one)."""
    comparisons = []
    for attack in dict.fromkeys(done.cell.attack for done in outcome.cells):
        cells = [(number, done) for number, done in enumerate(outcome.cells, 1) if done.cell.attack == attack]
        if len({done.cell.defense for _, done in cells}) < 2:
            continue
        findings = [finding for finding in outcome.findings if finding.cell.attack == attack]
        names = _headline_metrics(attack, [done for _, done in cells], findings)
        rows = [ComparisonRow(number, done, [_find(done, name) for name in names]) for number, done in cells]
        title = cells[0][1].result.title
        figure = _figure(attack, title, names, rows, findings)
        comparisons.append(Comparison(title, names, rows, figure, tradeoffs(cells)))
    return comparisons


def _headline_metrics(attack: str, cells: list[CellOutcome], findings: list[PolicyFinding]) -> list[str]:
    """What the policy names, then what has a direction, then the rest; controls never."""
    metrics = [metric for done in cells for metric in done.result.metrics if not metric.control]
    named = [finding.metric.removeprefix(f"{attack}.") for finding in findings]
    ranked = [name for name in named if any(metric.name == name for metric in metrics)]
    ranked += [metric.name for metric in metrics if metric.higher_is_better is not None]
    ranked += [metric.name for metric in metrics]
    return list(dict.fromkeys(ranked))[:_MOST_METRICS]


def _find(done: CellOutcome, name: str) -> Metric | None:
    return next((metric for metric in done.result.metrics if metric.name == name), None)


def _figure(
    attack: str, title: str, names: list[str], rows: list[ComparisonRow], findings: list[PolicyFinding]
) -> Figure | None:
    columns = list(zip(*(row.metrics for row in rows)))
    shown = _column(columns)
    if shown is None or len(rows) > _MOST_BARS:
        return None
    several_seeds = len({row.done.cell.seed for row in rows}) > 1
    bars: list[IntervalRow] = [
        {
            "label": row.done.cell.defense + (f", seed {row.done.cell.seed}" if several_seeds else ""),
            "value": metric.value if metric else None,
            "low": metric.low if metric else None,
            "high": metric.high if metric else None,
            "group": "without defence" if row.done.cell.defense == "none" else "with defence",
        }
        for row, metric in zip(rows, columns[shown])
    ]
    if len({bar["label"] for bar in bars}) < len(bars):
        return None
    bounds = {
        finding.bound: f"policy {RELATION_SIGNS[finding.relation]} {finding.bound:g}"
        for finding in findings
        if finding.metric == f"{attack}.{names[shown]}"
    }
    lines: list[ReferenceLine] = [{"value": bound, "label": label} for bound, label in bounds.items()]
    return interval_bars(
        f"defenses-{attack}",
        f"{title}: {names[shown]} per defence",
        f"{names[shown]} of {title} without and with each defence; lines through the points are intervals.",
        bars,
        x_title=names[shown],
        reference_lines=lines,
    )


def _column(columns: list[tuple[Metric | None, ...]]) -> int | None:
    """The first metric with an interval in some cell, else the first with a value."""
    for wanted in ("low", "value"):
        for index, column in enumerate(columns):
            if any(metric is not None and getattr(metric, wanted) is not None for metric in column):
                return index
    return None
