"""Judges a policy against what the cells measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dosimeter.core.problems import nearest
from dosimeter.core.result import Metric, Result, Verdict
from dosimeter.study.outcome import CellOutcome, PolicyFinding
from dosimeter.study.spec import Bound, StudySpec


def judge(spec: StudySpec, cells: Sequence[CellOutcome]) -> list[PolicyFinding]:
    """One finding per line of the policy and cell of its attack."""
    return judge_bounds(spec.policy, cells)


def judge_bounds(policy: Mapping[str, Bound], cells: Sequence[CellOutcome]) -> list[PolicyFinding]:
    """One finding per line of ``policy`` and cell of its attack; each line names an attack of ``cells``."""
    findings = []
    for key, bound in policy.items():
        slug = max((o.cell.attack for o in cells if key.startswith(f"{o.cell.attack}.")), key=len)
        name = key[len(slug) + 1 :]
        own = [outcome for outcome in cells if outcome.cell.attack == slug]
        reported = sorted({metric.name for outcome in own for metric in outcome.result.metrics})
        for outcome in own:
            metric, verdict, reason = _judge_cell(outcome.result, name, bound, reported)
            findings.append(
                PolicyFinding(
                    metric=key,
                    relation=bound.relation,
                    bound=bound.value,
                    cell=outcome.cell,
                    measured=metric,
                    verdict=verdict,
                    reason=reason,
                )
            )
    return findings


def _judge_cell(
    result: Result, name: str, bound: Bound, reported: list[str]
) -> tuple[Metric | None, Verdict, str | None]:
    metric = next((metric for metric in result.metrics if metric.name == name), None)
    if metric is not None:
        verdict, reason = judge_metric(metric, bound)
        return metric, verdict, reason
    if not result.metrics:
        verdict = "error" if result.verdict == "error" else "undetermined"
        return None, verdict, result.reason or "nothing was measured"
    if name in reported:
        return None, "undetermined", f"'{name}' was not measured here, though it was in other cells"
    return None, "error", f"{result.method} reports no metric '{name}'; {nearest(name, reported)}"


def judge_metric(metric: Metric, bound: Bound) -> tuple[Verdict, str | None]:
    """``pass`` or ``fail`` if the whole interval is on one side of the bound, or the value where there is no interval."""
    if metric.value is None:
        return "undetermined", metric.reason
    if metric.low is None or metric.high is None:
        return ("pass" if bound.holds(metric.value) else "fail"), None
    if bound.relation == "==":
        if metric.low == metric.high == bound.value:
            return "pass", None
        inside = metric.low <= bound.value <= metric.high
    else:
        at_ends = {bound.holds(metric.low), bound.holds(metric.high)}
        if at_ends == {True}:
            return "pass", None
        inside = True in at_ends
    if not inside:
        return "fail", None
    return (
        "undetermined",
        f"the bound {bound.value:g} lies within the interval [{metric.low:.4g}, {metric.high:.4g}]",
    )
