"""Study outcomes made by hand, for what is done with the outcomes of two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dosimeter.core.record_scores import RecordScores
from dosimeter.core.result import Metric, Provenance, Result, Verdict
from dosimeter.study.outcome import Bill, Cell, CellOutcome, StudyOutcome


def measured(
    *metrics: Metric,
    records: Mapping[str, Sequence[float]] | None = None,
    names: Sequence[str] | None = None,
    verdict: Verdict = "pass",
    reason: str | None = None,
    cell: Cell | None = None,
    **provenance: Any,
) -> CellOutcome:
    """A cell; ``records`` gives values per record, from which metrics (lower is better) are made."""
    cell = cell or Cell(attack="skew")
    records = records or {}
    made = [
        Metric(name=name, value=float(np.mean(values)), n=len(values), higher_is_better=False)
        for name, values in records.items()
    ]
    scores = []
    if records:
        count = len(next(iter(records.values())))
        scores = [RecordScores.of(names or [f"r{i}" for i in range(count)], records)]
    result = Result(
        method=cell.attack,
        title=cell.attack.title(),
        verdict=verdict,
        summary="Something was seen.",
        reason=reason,
        metrics=[*metrics, *made],
        records=scores,
        provenance=Provenance(seed=cell.seed, **provenance),
    )
    return CellOutcome(cell=cell, result=result)


def outcome(*cells: CellOutcome, run: str = "20260101-000000-aaaa", **fields: Any) -> StudyOutcome:
    """A study that ended with ``cells``."""
    given: dict[str, Any] = {
        "name": "words",
        "verdict": "pass",
        "summary": "Something was seen.",
        "target": "service",
        "target_access": "takes text, returns label, grants query",
        "spec": "name: words\n",
        "command": "dosimeter audit audit.yaml",
        "started": "2026-01-01T00:00:00+00:00",
        "bill": Bill(queries=10),
    }
    return StudyOutcome(run=run, cells=list(cells), **{**given, **fields})
