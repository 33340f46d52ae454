"""Two runs of the same audit beside each other: what got better, what got worse, what cannot be told.

Cells are matched by attack, defence and seed; metrics with values per record are tested on the records that both runs
share, and Holm's correction covers all of these tests together. A metric without them is judged by its two intervals: it
changed where they lie apart. Metrics without a direction and controls are not compared. Does not own: the tests
(``stats.paired``), how it is shown (``cli``, ``report.markdown``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dosimeter.core.errors import InputError
from dosimeter.core.problems import nearest
from dosimeter.core.result import Metric, Result
from dosimeter.core.seeding import rng
from dosimeter.stats.detectable import smallest_difference
from dosimeter.stats.paired import PairedDifference, compare_pairs, fewest_records, holm
from dosimeter.study.differences import (
    ALPHA,
    MetricDifference,
    RunComparison,
    RunSide,
    metric_difference,
)
from dosimeter.study.outcome import Cell, StudyOutcome


def compare_runs(
    before: StudyOutcome, after: StudyOutcome, *, tolerance: float = 0.0, metrics: Sequence[str] = ()
) -> RunComparison:
    """Compare ``after`` with ``before``.

    Args:
        tolerance: differences up to this size, in the unit of each metric, count as none.
        metrics: compare only these, each as ``metric`` or ``attack.metric``; all with a direction if not given. Fewer
            metrics need less correction and show smaller differences.

    Raises:
        InputError: the earlier run has no metric of a name in ``metrics`` that has a direction.
    """
    _check_names(before, metrics)
    results = {done.cell: done.result for done in after.cells}
    rows: list[MetricDifference] = []
    tests: list[_Test] = []
    for done in before.cells:
        later = results.pop(done.cell, None)
        for row in _cell(done.cell, done.result, later, metrics, tolerance):
            if isinstance(row, _Test):
                tests.append(row)
                rows.append(row.row)
            else:
                rows.append(row)
    adjusted = holm([test.found.p for test in tests])
    judged = {id(test.row): _judged(test, p, tolerance, len(tests)) for test, p in zip(tests, adjusted)}
    return RunComparison(
        before=RunSide.of(before),
        after=RunSide.of(after),
        tolerance=tolerance,
        tests=len(tests),
        rows=[judged.get(id(row), row) for row in rows],
        notes=list(_notes(before, after, [cell.label for cell in results])),
    )


def _check_names(before: StudyOutcome, wanted: Sequence[str]) -> None:
    known = {
        name
        for done in before.cells
        for metric in _compared(done.result, ())
        for name in (metric, f"{done.result.method}.{metric}")
    }
    for name in wanted:
        if name not in known:
            raise InputError(
                f"run {before.run} has no metric '{name}' to compare; {nearest(name, sorted(known))}. Controls and metrics "
                "without a direction are not compared."
            )


@dataclass(frozen=True, eq=False)
class _Test:
    """A paired test whose p-value is still to be corrected."""

    row: MetricDifference
    found: PairedDifference
    differences: np.ndarray


def _notes(before: StudyOutcome, after: StudyOutcome, new: list[str]) -> Iterator[str]:
    if before.run == after.run:
        yield f"Both are run {before.run}: there is nothing that could differ."
    if new:
        yield f"Only in the later run, so not compared: {'; '.join(new)}."
    versions = [
        {done.result.provenance.versions.get("dosimeter", "") for done in side.cells}
        for side in (before, after)
    ]
    if versions[0] != versions[1]:
        yield "The runs were made by different versions of Dosimeter; a difference may come from there."


def _cell(
    cell: Cell, before: Result, after: Result | None, wanted: Sequence[str], tolerance: float
) -> Iterator[MetricDifference | _Test]:
    reason = "this cell is missing in the later run" if after is None else _obstacle(before, after)
    if after is None or reason is not None:
        yield MetricDifference(
            cell=cell, metric="all", finding="not comparable", reason=reason, undecided=True
        )
        return
    if not wanted:
        yield _verdicts(cell, before, after)
    earlier, later = (_compared(result, wanted) for result in (before, after))
    for name, metric in earlier.items():
        yield _metric(cell, metric, later.get(name), before, after, tolerance)


def _compared(result: Result, wanted: Sequence[str]) -> dict[str, Metric]:
    return {
        metric.name: metric
        for metric in result.metrics
        if metric.higher_is_better is not None
        and not metric.control
        and (not wanted or {metric.name, f"{result.method}.{metric.name}"} & set(wanted))
    }


def _obstacle(before: Result, after: Result) -> str | None:
    """Why figures of these results cannot be held against each other."""
    for said, result in (("earlier", before), ("later", after)):
        if not result.metrics:
            return f"the {said} run measured nothing here: {result.reason or result.summary}"
    digests = before.provenance.data_digests, after.provenance.data_digests
    changed = sorted(
        name for name in {*digests[0], *digests[1]} if digests[0].get(name) != digests[1].get(name)
    )
    if changed:
        return f"the runs used different data ({', '.join(changed)})"
    settings = before.provenance.hyperparameters, after.provenance.hyperparameters
    changed = sorted(
        name for name in {*settings[0], *settings[1]} if settings[0].get(name) != settings[1].get(name)
    )
    if changed:
        return f"the attack had different settings ({', '.join(changed)})"
    return None


def _verdicts(cell: Cell, before: Result, after: Result) -> MetricDifference:
    """The attack's own decision, which carries the error of the attack's rule and is not tested again."""
    row = MetricDifference(
        cell=cell, metric="verdict", basis="decision", change=f"{before.verdict} to {after.verdict}"
    )
    if before.verdict == after.verdict and before.verdict in ("pass", "fail"):
        return row
    if {before.verdict, after.verdict} <= {"pass", "fail"}:
        return row.model_copy(update={"finding": "worse" if after.verdict == "fail" else "better"})
    doubtful = after if after.verdict not in ("pass", "fail") else before
    return row.model_copy(update={"finding": "not comparable", "reason": doubtful.reason, "undecided": True})


def _metric(
    cell: Cell, before: Metric, after: Metric | None, first: Result, second: Result, tolerance: float
) -> MetricDifference | _Test:
    row = metric_difference(cell, before, after)
    if after is None or before.value is None or after.value is None:
        if before.value is None:
            reason = f"the earlier run has no value: {before.reason}"
        elif after is None:
            reason = "the later run does not report it"
        else:
            reason = f"the later run has no value: {after.reason}"
        return row.model_copy(update={"reason": reason, "undecided": before.value is not None})
    pairs = _shared(before.name, first, second)
    if pairs is not None:
        return _paired(row, *pairs, tolerance)
    if None in (before.low, before.high, after.low, after.high):
        return row.model_copy(
            update={"reason": "no values per record and no interval: chance cannot be told from change"}
        )
    return _by_intervals(row, before, after, tolerance)


def _shared(name: str, *results: Result) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Values of metric ``name`` on the records of both results, and how many records the larger has; ``None`` if
    one of them keeps none."""
    columns: list[dict[str, float]] = []
    total = 0
    for result in results:
        scores = next((scores for scores in result.records if name in scores.values), None)
        if scores is None:
            return None
        columns.append(dict(zip(scores.keys, scores.values[name])))
        total = max(total, scores.total)
    keys = sorted(columns[0].keys() & columns[1].keys())
    before, after = (np.array([column[key] for key in keys]) for column in columns)
    return before, after, total


def _paired(
    row: MetricDifference, before: np.ndarray, after: np.ndarray, total: int, tolerance: float
) -> MetricDifference | _Test:
    needed = fewest_records(ALPHA)
    if len(before) < needed:
        return row.model_copy(
            update={
                "n": len(before),
                "reason": f"{len(before)} records in common; fewer than {needed} can show no difference",
                "undecided": True,
            }
        )
    null = 0.0
    if tolerance:
        null = float(np.copysign(tolerance, after.mean() - before.mean()))
    found = compare_pairs(before, after, rng(0, "compare-runs", row.metric), null=null)
    if abs(found.difference) <= tolerance:
        found = replace(found, p=1.0)  # the null "at most the tolerance" holds in the sample itself
    row = row.model_copy(
        update={
            "basis": "paired",
            "n": found.n,
            "before": float(before.mean()),
            "after": float(after.mean()),
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "interval": found.interval,
            "test": found.test,
            "reason": f"{len(before)} of {total} records are in both runs" if len(before) < total else None,
        }
    )
    return _Test(row, found, after - before)


def _judged(test: _Test, p: float, tolerance: float, tests: int) -> MetricDifference:
    smallest = smallest_difference(test.found, test.differences, alpha=ALPHA / tests)
    return test.row.model_copy(
        update={
            "p": p,
            "smallest": None if smallest is None else smallest + tolerance,
            "finding": test.row.direction(test.found.difference) if p <= ALPHA else "no evidence",
        }
    )


def _by_intervals(row: MetricDifference, before: Metric, after: Metric, tolerance: float) -> MetricDifference:
    assert before.low is not None and before.high is not None
    assert after.low is not None and after.high is not None
    assert before.value is not None and after.value is not None
    low, high = after.low - before.high, after.high - before.low
    apart = low > tolerance or high < -tolerance
    return row.model_copy(
        update={
            "basis": "unpaired",
            "difference": after.value - before.value,
            "low": low,
            "high": high,
            "interval": "ends of both intervals",
            "finding": row.direction(low) if apart else "no evidence",
        }
    )
