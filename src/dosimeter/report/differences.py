"""The differences between two runs in rows and sentences, for the terminal and for Markdown."""

from __future__ import annotations

from dosimeter.report.wording import counted, listed
from dosimeter.study.differences import MetricDifference, RunComparison

COLUMNS = ["cell", "metric", "before", "after", "difference", "p", "could show", "finding"]
CAPTION = (
    "Differences have 95 % intervals of their own; p is corrected for all paired tests together (Holm). "
    "'could show' is the true difference that would have been found in four of five cases: 'no evidence' excludes no "
    "smaller one."
)


def difference_rows(found: RunComparison) -> list[list[str | None]]:
    """One row per metric and cell, under ``COLUMNS``."""
    return [
        [
            row.cell.label,
            row.metric,
            row.change.partition(" to ")[0] if row.change else _number(row.before),
            row.change.partition(" to ")[2] if row.change else _number(row.after),
            difference_text(row),
            None if row.p is None else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}",
            _number(row.smallest),
            f"{row.finding} (unpaired)" if row.basis == "unpaired" else row.finding,
        ]
        for row in found.rows
    ]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def difference_text(row: MetricDifference) -> str | None:
    """``+0.12 [0.03, 0.21]``; ``None`` where there is none."""
    if row.difference is None:
        return None
    interval = "" if row.low is None or row.high is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.difference:+.3g}{interval}"


def conclusion(found: RunComparison) -> str:
    """One sentence: what got worse, better, shows no evidence, cannot be told."""
    counts = {
        finding: sum(row.finding == finding for row in found.rows)
        for finding in ("worse", "better", "unchanged", "no evidence", "not comparable")
    }
    words = {
        "worse": "worse",
        "better": "better",
        "unchanged": "decided as before",
        "no evidence": "without evidence of a change",
        "not comparable": "not comparable",
    }
    parts = [f"{count} {words[finding]}" for finding, count in counts.items() if count]
    worst = ", ".join(f"{row.metric} of {row.cell.label}" for row in found.worse[:3])
    more = f" and {len(found.worse) - 3} more" if len(found.worse) > 3 else ""
    beyond = f" by more than {found.tolerance:g}" if found.tolerance else ""
    said = f" Worse{beyond}: {worst}{more}." if found.worse else ""
    return (
        f"Of {counted(len(found.rows), 'figure')} {listed(parts)}.{said}" if parts else "Nothing to compare."
    )


def reasons(found: RunComparison) -> dict[str, list[str]]:
    """Every reason with the figures it is said of."""
    said: dict[str, list[str]] = {}
    for row in found.rows:
        if row.reason:
            said.setdefault(row.reason, []).append(f"{row.metric} of {row.cell.label}")
    return said
