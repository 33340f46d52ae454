"""What a verdict rests on, one by one: the same list behind every format that a machine reads.

A study has the worst verdict of its checks. With a policy these are its findings, and every cell that measured nothing;
without one, every cell. Where that does not add up to the verdict of the study, a last check stands for the study itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from dosimeter.core.result import VERDICT_ORDER, Metric, Result, Verdict, worst_verdict
from dosimeter.report.wording import number_text
from dosimeter.study.outcome import Cell, PolicyFinding, StudyOutcome

#: Rule of the check that stands for the study as a whole.
STUDY_RULE = "study"


@dataclass(frozen=True)
class Check:
    """One thing that was judged.

    Attributes:
        rule: what was judged, ``slug.metric`` of the policy or the slug of an attack; the same in every run.
        required: what the policy asks, in words; what the attack's own rule is called otherwise.
        text: what was found, in one or two sentences.
        reason: why it is undetermined or went wrong.
    """

    rule: str
    verdict: Verdict
    required: str
    text: str
    reason: str | None = None
    cell: Cell | None = None
    finding: PolicyFinding | None = None
    result: Result | None = None


@dataclass(frozen=True)
class Unjudged:
    """A cell that measured something no line of the policy speaks of; it has no part in the verdict."""

    cell: Cell
    result: Result


def checks(outcome: StudyOutcome) -> list[Check]:
    """The checks of ``outcome``, in the order of its policy and its cells; their worst verdict is the outcome's."""
    results = {done.cell: done.result for done in outcome.cells}
    found = [_of_finding(finding, results.get(finding.cell)) for finding in outcome.findings]
    judged = {finding.cell for finding in outcome.findings}
    for done in outcome.cells:
        unmeasured = done.result.verdict == "error" or not done.result.metrics
        if not outcome.findings or (unmeasured and done.cell not in judged):
            found.append(_of_cell(done.cell, done.result))
    worst = worst_verdict([check.verdict for check in found]) if found else None
    if worst is None or VERDICT_ORDER.index(worst) < VERDICT_ORDER.index(outcome.verdict):
        found.append(_of_study(outcome))
    return found


def unjudged(outcome: StudyOutcome) -> list[Unjudged]:
    """The cells without a part in the verdict: measured, but no line of the policy speaks of them."""
    if not outcome.findings:
        return []
    judged = {finding.cell for finding in outcome.findings}
    return [
        Unjudged(done.cell, done.result)
        for done in outcome.cells
        if done.cell not in judged and done.result.verdict != "error" and done.result.metrics
    ]


def measured_text(metric: Metric | None) -> str:
    """``0.86 [0.79, 0.91] (n = 40, 95% Wilson)``, or why there is no value."""
    if metric is None:
        return "not measured"
    if metric.value is None:
        return f"unresolved: {metric.reason}"
    text = number_text(metric.value)
    if metric.low is not None and metric.high is not None:
        text += f" [{number_text(metric.low)}, {number_text(metric.high)}]"
    elif metric.low is not None:
        text += f" (at least {number_text(metric.low)})"
    elif metric.high is not None:
        text += f" (at most {number_text(metric.high)})"
    text += f" {metric.unit}" if metric.unit else ""
    more = [f"n = {metric.n:,}"] if metric.n is not None else []
    more += [metric.interval] if metric.interval else []
    return f"{text} ({', '.join(more)})" if more else text


def _of_finding(finding: PolicyFinding, result: Result | None) -> Check:
    required = f"{finding.metric} {finding.relation} {number_text(finding.bound)}"
    said = {
        "pass": "holds",
        "fail": "does not hold",
        "undetermined": "is undetermined",
        "error": "could not be judged",
    }[finding.verdict]
    text = f"{required} {said}: measured {measured_text(finding.measured)}."
    return Check(
        rule=finding.metric,
        verdict=finding.verdict,
        required=required,
        text=f"{text} {result.summary}".rstrip() if result else text,
        reason=finding.reason,
        cell=finding.cell,
        finding=finding,
        result=result,
    )


def _of_cell(cell: Cell, result: Result) -> Check:
    return Check(
        rule=cell.attack,
        verdict=result.verdict,
        required=f"{result.title}, judged by its own rule",
        text=result.summary.strip() or f"{cell.label}: {result.verdict}",
        reason=result.reason,
        cell=cell,
        result=result,
    )


def _of_study(outcome: StudyOutcome) -> Check:
    reason = None
    if outcome.verdict in ("undetermined", "error"):
        reason = outcome.next_step or ("nothing was run" if not outcome.cells else outcome.summary)
    return Check(
        rule=STUDY_RULE,
        verdict=outcome.verdict,
        required="the study as a whole",
        text=outcome.summary.strip() or "Nothing was run.",
        reason=reason,
    )
