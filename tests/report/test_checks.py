import pytest
from hypothesis import given, settings

from dosimeter.core.result import Metric, worst_verdict
from dosimeter.report.checks import checks, measured_text, unjudged
from dosimeter.study.outcome import Cell, CellOutcome

from .outcomes import VERDICTS, finding, result, studies, study

PLAIN, ROUNDED = Cell(attack="membership"), Cell(attack="membership", defense="rounding")


@settings(max_examples=80, deadline=None)
@given(studies())
def test_the_verdict_of_a_study_is_the_worst_of_its_checks(outcome):
    found = checks(outcome)
    assert worst_verdict([check.verdict for check in found]) == outcome.verdict
    for check in found:
        assert check.required
        assert check.text
        assert (check.reason is not None) or check.verdict in ("pass", "fail")
    told = {check.cell for check in found if check.cell} | {left.cell for left in unjudged(outcome)}
    assert told == {done.cell for done in outcome.cells}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_without_a_policy_every_cell_is_a_check(verdict):
    [check] = checks(study([CellOutcome(cell=PLAIN, result=result(verdict))], []))
    assert (check.rule, check.verdict, check.text) == ("membership", verdict, "said")
    assert check.required == "Membership, judged by its own rule"


def test_with_a_policy_its_findings_are_the_checks_and_cells_that_measured_nothing():
    cells = [
        CellOutcome(cell=PLAIN, result=result("fail")),
        CellOutcome(cell=ROUNDED, result=result("error", measured=False)),
    ]
    found = checks(study(cells, [finding(PLAIN, "pass")]))
    assert [(check.rule, check.verdict) for check in found] == [
        ("membership.auc", "pass"),
        ("membership", "error"),
    ]
    assert (
        found[0].text == "membership.auc <= 0.75 holds: measured 0.7 [0.6, 0.8] (n = 50, DeLong, 95%). said"
    )


def test_a_measured_cell_that_no_line_speaks_of_has_no_part():
    cells = [CellOutcome(cell=cell, result=result("fail")) for cell in (PLAIN, ROUNDED)]
    outcome = study(cells, [finding(PLAIN, "pass")])
    assert outcome.verdict == "pass"
    assert [left.cell for left in unjudged(outcome)] == [ROUNDED]
    assert unjudged(outcome.model_copy(update={"findings": []})) == []


def test_a_study_of_nothing_speaks_for_itself(empty):
    [check] = checks(empty)
    assert (check.rule, check.verdict, check.reason) == ("study", "undetermined", "nothing was run")


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (None, "not measured"),
        (Metric(name="a", value=None, reason="too few"), "unresolved: too few"),
        (Metric(name="a", value=0.123456, unit="nats"), "0.1235 nats"),
        (Metric(name="a", value=3, low=2.5), "3 (at least 2.5)"),
        (Metric(name="a", value=3, high=4, n=12_000), "3 (at most 4) (n = 12,000)"),
    ],
)
def test_measured_text(metric, text):
    assert measured_text(metric) == text
