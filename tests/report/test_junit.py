import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from junitparser import Error, Failure, JUnitXml, Skipped

from dosimeter.report.junit import render_junit
from dosimeter.study.outcome import Cell, CellOutcome

from .outcomes import VERDICTS, finding, result, studies, study

CELL = Cell(attack="membership", defense="rounding", seed=3)


def root_of(outcome) -> ET.Element:
    return ET.fromstring(render_junit(outcome))


def verdict_of(root: ET.Element) -> str:
    """As docs/report-formats.md says it is read back."""
    errors = {error.get("type") for error in root.iter("error")}
    if "error" in errors:
        return "error"
    return "fail" if root.find(".//failure") is not None else "undetermined" if errors else "pass"


def check_counts(root: ET.Element) -> None:
    """The sums that Jenkins and GitLab show, at every level."""
    for level in (root, *root.iter("testsuite")):
        cases = list(level.iter("testcase"))
        assert int(level.get("tests")) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(level.get(attribute)) == sum(case.find(tag) is not None for case in cases)
        assert float(level.get("time")) == pytest.approx(
            sum(float(case.get("time")) for case in cases), abs=0.01
        )
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)


@settings(max_examples=40, deadline=None)
@given(studies())
def test_any_study_says_its_verdict(outcome):
    root = root_of(outcome)
    check_counts(root)
    assert verdict_of(root) == outcome.verdict


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("policy", [True, False])
def test_each_verdict(verdict, policy):
    cell = CellOutcome(cell=CELL, result=result("pass" if policy else verdict))
    root = root_of(study([cell], [finding(CELL, verdict)] if policy else []))
    assert verdict_of(root) == verdict
    [case] = root.iter("testcase")
    assert case.find("skipped") is None
    said = [(child.tag, child.get("type")) for child in case if child.tag != "properties"]
    assert (
        said
        == {
            "pass": [],
            "fail": [("failure", "policy" if policy else "verdict")],
            "undetermined": [("error", "undetermined")],
            "error": [("error", "error")],
        }[verdict]
    )


def test_another_parser_reads_a_realistic_audit(outcome, tmp_path):
    path = tmp_path / "report.junit.xml"
    path.write_text(render_junit(outcome), encoding="utf-8")
    report = JUnitXml.fromfile(str(path))
    assert (report.tests, report.failures, report.errors, report.skipped) == (4, 2, 1, 0)
    suites = list(report)
    assert [suite.name for suite in suites] == ["encoder-inference", "encoder-inference against jpeg"]
    assert suites[0].timestamp == "2026-03-14T10:22:05"
    facts = {item.name: item.value for item in suites[0].properties()}
    assert facts["run"] == outcome.run
    assert facts["version.torch"] == "2.13.0"
    first, second = list(suites[0])
    assert (first.name, first.classname) == (
        "encoder-inference.identified == 0, seed 0",
        "Digits service.encoder-inference",
    )
    assert (first.time, second.time) == (71.3, 0.0)
    [failure] = first.result
    assert isinstance(failure, Failure)
    assert failure.message.startswith("encoder-inference.identified == 0 does not hold: measured 1 (n = 6).")
    [doubt] = list(suites[1])[1].result
    assert isinstance(doubt, Error)
    assert (doubt.type, doubt.message[:39]) == ("undetermined", "the interval reaches over the bound. en")
    case = root_of(outcome).find(".//testcase")
    assert (case.get("file"), case.get("line")) == ("audit-spec.yaml", "6")
    own = {item.get("name"): item.get("value") for item in case.iter("property")}
    assert own["seed"] == "0"
    assert own["bound"] == "== 0.0"
    assert own["data.objectives"] == "sha256:" + "0a" * 32


def test_a_cell_without_a_line_of_policy_is_skipped_with_the_reason(tmp_path):
    other = Cell(attack="inversion")
    cells = [CellOutcome(cell=CELL, result=result("pass")), CellOutcome(cell=other, result=result("fail"))]
    outcome = study(cells, [finding(CELL, "pass")])
    path = tmp_path / "junit.xml"
    path.write_text(render_junit(outcome))
    _, suite = JUnitXml.fromfile(str(path))
    [case] = suite
    [skipped] = case.result
    assert isinstance(skipped, Skipped)
    assert skipped.message == "no line of the policy speaks of inversion; by its own rule: fail. said"
    assert verdict_of(root_of(outcome)) == "pass"


def test_hostile_texts_are_data(hostile):
    text = render_junit(hostile)
    root = ET.fromstring(text)
    check_counts(root)
    assert "<script>" not in text
    assert not set(text) & set(map(chr, [*range(9), 11, 12, *range(14, 32), 0x7F, 0x202E]))
    assert (
        any(case.get("name").startswith("<script>alert(1)</script>") for case in root.iter("testcase"))
        is False
    )
    messages = " ".join(found.get("message") for found in root.iter() if found.get("message"))
    assert "<html><body>502</body>" in messages
    assert max(len(found.get("message") or "") for found in root.iter()) <= 1_000


def test_nothing_run_is_not_green(empty):
    root = root_of(empty)
    assert verdict_of(root) == "undetermined"
    assert [case.get("name") for case in root.iter("testcase")] == ["the study as a whole"]
