"""Tests of the policy: what an interval allows to be said."""

import pytest

from dosimeter.core.result import Metric, Provenance, Result
from dosimeter.study.outcome import Cell, CellOutcome
from dosimeter.study.policy import judge, judge_metric
from dosimeter.study.spec import Bound, StudySpec


def metric(value: float | None, low: float | None = None, high: float | None = None) -> Metric:
    return Metric(
        name="m", value=value, low=low, high=high, reason="too few records" if value is None else None
    )


@pytest.mark.parametrize(
    ("bound", "measured", "verdict"),
    [
        ("<= 0.5", metric(0.4), "pass"),
        ("<= 0.5", metric(0.5), "pass"),
        ("< 0.5", metric(0.5), "fail"),
        ("<= 0.5", metric(0.4, 0.3, 0.5), "pass"),
        ("<= 0.5", metric(0.4, 0.3, 0.6), "undetermined"),
        ("<= 0.5", metric(0.7, 0.5, 0.9), "undetermined"),
        ("< 0.5", metric(0.7, 0.5, 0.9), "fail"),
        ("<= 0.5", metric(0.7, 0.6, 0.9), "fail"),
        (">= 0.5", metric(0.7, 0.5, 0.9), "pass"),
        ("> 0.5", metric(0.7, 0.5, 0.9), "undetermined"),
        ("== 0", metric(0.0), "pass"),
        ("== 0", metric(1.0), "fail"),
        ("== 0", metric(0.0, 0.0, 0.0), "pass"),
        ("== 0", metric(0.0, 0.0, 0.2), "undetermined"),
        ("== 0", metric(0.5, 0.2, 0.8), "fail"),
        ("<= 0.5", metric(None), "undetermined"),
    ],
)
def test_one_metric_against_one_bound(bound: str, measured: Metric, verdict: str):
    found, reason = judge_metric(measured, Bound.model_validate(bound))
    assert found == verdict
    assert (reason is not None) == (verdict == "undetermined")


def outcome(seed: int, *metrics: Metric, verdict: str = "pass", reason: str | None = None) -> CellOutcome:
    result = Result(
        method="label-skew",
        title="t",
        verdict=verdict,
        summary="s",
        reason=reason,
        metrics=list(metrics),
        provenance=Provenance(seed=seed),
    )
    return CellOutcome(cell=Cell(attack="label-skew", seed=seed), result=result)


@pytest.fixture
def spec(plugin_example: str) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "x",
            "target": {
                "kind": "recorded",
                "inputs": "a",
                "answers": "b",
                "modality": "text",
                "returns": "label",
            },
            "attacks": ["label-skew"],
            "policy": {"label-skew.m": "<= 0.5"},
            "seeds": [0, 1],
        }
    )


def test_each_cell_of_the_attack_is_judged(spec: StudySpec):
    found = judge(spec, [outcome(0, metric(0.1)), outcome(1, metric(0.9))])
    assert [finding.verdict for finding in found] == ["pass", "fail"]
    assert [finding.cell.seed for finding in found] == [0, 1]


def test_a_metric_that_nobody_reports_is_an_error_with_the_near_names(spec: StudySpec):
    others = Metric(name="em", value=1.0), Metric(name="n", value=1.0)
    [first, _] = judge(spec, [outcome(0, *others), outcome(1, *others)])
    assert first.verdict == "error"
    assert first.reason == "label-skew reports no metric 'm'; did you mean 'em'?"


def test_a_metric_missing_from_one_cell_is_undetermined(spec: StudySpec):
    found = judge(spec, [outcome(0, metric(0.1)), outcome(1, Metric(name="n", value=1.0))])
    assert [finding.verdict for finding in found] == ["pass", "undetermined"]


def test_cells_that_measured_nothing_hand_on_their_verdict_and_reason(spec: StudySpec):
    found = judge(
        spec,
        [outcome(0, verdict="error", reason="gone"), outcome(1, verdict="undetermined", reason="budget")],
    )
    assert [(finding.verdict, finding.reason) for finding in found] == [
        ("error", "gone"),
        ("undetermined", "budget"),
    ]
