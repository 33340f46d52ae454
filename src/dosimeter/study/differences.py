"""What a comparison of two runs found, in a form that tables, JSON and exit codes are made from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dosimeter.core.result import Metric, Verdict
from dosimeter.study.outcome import Cell, StudyOutcome

#: Family-wise error of all tests of one comparison.
ALPHA = 0.05

Finding = Literal["better", "worse", "unchanged", "no evidence", "not comparable"]
Basis = Literal["paired", "unpaired", "decision"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSide(_Frozen):
    """One of the two runs."""

    run: str
    name: str
    started: str
    target: str
    verdict: Verdict

    @classmethod
    def of(cls, outcome: StudyOutcome) -> RunSide:
        """What a comparison says about ``outcome``."""
        return cls(
            run=outcome.run,
            name=outcome.name,
            started=outcome.started,
            target=outcome.target,
            verdict=outcome.verdict,
        )


class MetricDifference(_Frozen):
    """One metric of one cell, before and after.

    Attributes:
        metric: its name; ``verdict`` for the attack's own decision, ``all`` where a whole cell cannot be compared.
        before, after: means over the ``n`` shared records where the basis is ``paired``, else the values reported.
        difference, low, high, interval: after minus before, with a 95 % interval of this difference alone.
        p: that the difference is at most the tolerance, after Holm's correction over all tests of the comparison.
        smallest: true difference that would have been found in four of five cases.
        undecided: whether the comparison as a whole is left undecided by this.
    """

    cell: Cell
    metric: str
    higher_is_better: bool | None = None
    before: float | None = None
    after: float | None = None
    change: str | None = Field(None, description="of a decision, in words")
    n: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    test: str | None = None
    p: float | None = None
    smallest: float | None = None
    basis: Basis | None = None
    finding: Finding = "unchanged"
    reason: str | None = None
    undecided: bool = False

    def direction(self, difference: float) -> Finding:
        """``better`` or ``worse`` for the party that owns the target."""
        return "better" if (difference > 0) == self.higher_is_better else "worse"


def metric_difference(cell: Cell, before: Metric, after: Metric | None) -> MetricDifference:
    """The row of a metric before anything is known about its change."""
    return MetricDifference(
        cell=cell,
        metric=before.name,
        higher_is_better=before.higher_is_better,
        before=before.value,
        after=None if after is None else after.value,
        finding="not comparable",
    )


class RunComparison(_Frozen):
    """All rows, and what follows from them.

    Attributes:
        tests: paired tests that Holm's correction covers.
        notes: what a reader should know besides.
    """

    before: RunSide
    after: RunSide
    tolerance: float
    tests: int
    rows: list[MetricDifference]
    notes: list[str]

    @property
    def compared(self) -> list[MetricDifference]:
        """Rows about which something could be said."""
        return [row for row in self.rows if row.finding != "not comparable"]

    @property
    def worse(self) -> list[MetricDifference]:
        """Rows that got worse."""
        return [row for row in self.rows if row.finding == "worse"]

    @property
    def verdict(self) -> Verdict:
        """``fail`` if something got worse, ``undetermined`` if something that was measured before can no longer be
        told or nothing can be compared at all, else ``pass``."""
        if self.worse:
            return "fail"
        if not self.compared or any(row.undecided for row in self.rows):
            return "undetermined"
        return "pass"

    def exit_code(self, *, fail_if_worse: bool) -> int:
        """0, 1 or 2 as :attr:`verdict` says; without ``fail_if_worse`` 0 whenever anything could be compared."""
        if not fail_if_worse:
            return 0 if self.compared else 2
        return {"pass": 0, "fail": 1}.get(self.verdict, 2)
