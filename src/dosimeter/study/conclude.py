"""Draws the conclusion of a study from its cells: verdict, summary, next step. The same cells give the same words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dosimeter.core.result import VERDICT_ORDER, Verdict, worst_verdict
from dosimeter.study.outcome import Bill, CellOutcome, PolicyFinding, StudyOutcome
from dosimeter.study.plan import Plan
from dosimeter.study.policy import judge


def conclude(
    planned: Plan,
    cells: Sequence[CellOutcome],
    *,
    run: str,
    started: str,
    seconds: float,
    sent: int,
    lost: int,
) -> StudyOutcome:
    """The outcome of ``planned``, whose ``cells`` are all there, in order."""
    spec = planned.spec
    findings = judge(spec, cells)
    verdict = _verdict(cells, findings)
    return StudyOutcome(
        run=run,
        name=spec.name,
        verdict=verdict,
        summary=_summary(cells, findings),
        target=planned.target,
        target_access=planned.target_access,
        spec=spec.origin.text,
        spec_file=spec.origin.file,
        command=spec.origin.command,
        started=started,
        cells=list(cells),
        findings=findings,
        bill=Bill(
            queries=sum(outcome.result.cost.queries for outcome in cells),
            sent=sent,
            lost=lost,
            limit=spec.budget.queries,
            money=sum(outcome.result.cost.money for outcome in cells),
            seconds=round(seconds, 3),
        ),
        next_step=_next_step(verdict, cells, findings),
    )


def _verdict(cells: Sequence[CellOutcome], findings: Sequence[PolicyFinding]) -> Verdict:
    """The policy's where there is one; a cell that measured nothing counts in any case."""
    if not findings:
        return worst_verdict([outcome.result.verdict for outcome in cells])
    unmeasured = [o.result.verdict for o in cells if o.result.verdict == "error" or not o.result.metrics]
    return worst_verdict([finding.verdict for finding in findings] + unmeasured)


def _worst(cells: Sequence[CellOutcome]) -> CellOutcome:
    return max(cells, key=lambda outcome: VERDICT_ORDER.index(outcome.result.verdict))


def _summary(cells: Sequence[CellOutcome], findings: Sequence[PolicyFinding]) -> str:
    worst = _worst(cells)
    said = worst.result.summary if len(cells) == 1 else f"{worst.cell.label}: {worst.result.summary}"
    if not findings:
        return said
    counts = Counter(finding.verdict for finding in findings)
    parts = [f"{counts['pass']} of {len(findings)} policy checks hold"]
    if counts["fail"]:
        first = next(finding for finding in findings if finding.verdict == "fail")
        value = first.measured.value if first.measured else None
        parts.append(
            f"{counts['fail']} {'does' if counts['fail'] == 1 else 'do'} not ({first.metric} is {value:g}, "
            f"allowed {first.relation} {first.bound:g})"
        )
    undecided = counts["undetermined"] + counts["error"]
    if undecided:
        parts.append(f"{undecided} could not be decided")
    return f"{', '.join(parts)}. {said}"


def _next_step(verdict: Verdict, cells: Sequence[CellOutcome], findings: Sequence[PolicyFinding]) -> str:
    reasons = [finding.reason for finding in findings if finding.verdict == verdict and finding.reason]
    reasons += [o.result.reason for o in cells if o.result.verdict == verdict and o.result.reason]
    because = f": {reasons[0]}" if reasons else "."
    match verdict:
        case "pass":
            return "Run the same command in your build; its exit code is 0 as long as this holds."
        case "fail":
            return "Read the evidence in the report, then add a defence under 'defenses' in the spec to measure what it changes."
        case "undetermined":
            return f"Find out more before you rely on this{because}"
        case "error":
            return f"Repair this, then run again (answers that arrived are kept){because}"
