"""The outcome as JUnit XML, for the test views of build systems: a suite per attack and defence, a case per check and seed.

A check that does not hold is a ``failure``. One that is undetermined, or could not be completed, is an ``error`` of that
type: build systems do not show it as green, as the exit code is not 0 either. A measured cell that no line of the policy
speaks of is ``skipped``, as it has no part in the verdict. The verdict of the study can be read back: the worst of an
error of the type ``error``, a failure, an error of the type ``undetermined``, and none of them.

Source of the format: the Maven Surefire schema and what Jenkins and GitLab read of it; GitLab also shows ``file``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from dosimeter.core.result import Metric, Result
from dosimeter.report.checks import Check, checks, measured_text, unjudged
from dosimeter.report.markdown import one_line, shortened
from dosimeter.report.places import SpecText
from dosimeter.report.wording import clean_text
from dosimeter.study.outcome import Cell, StudyOutcome

_MOST_MESSAGE = 1_000
_MOST_BODY = 10_000


def render_junit(outcome: StudyOutcome) -> str:
    """The text of ``report.junit.xml``: the same text for the same outcome."""
    spec = SpecText.of(outcome)
    suites: dict[str, list[ET.Element]] = {}
    cells: dict[str, Cell | None] = {}
    counted: set[Cell] = set()
    for check in checks(outcome):
        name = _suite_name(check.cell)
        cells.setdefault(name, check.cell)
        # The time of a cell stands once, so that sums over cases are sums over cells.
        seconds = 0.0 if check.cell in counted else _seconds(check.result)
        counted |= {check.cell} if check.cell else set()
        suites.setdefault(name, []).append(_case(outcome, check, spec, seconds))
    for left in unjudged(outcome):
        name = _suite_name(left.cell)
        cells.setdefault(name, left.cell)
        case = _element(
            "testcase", f"not judged, seed {left.cell.seed}", outcome, left.cell, spec, _seconds(left.result)
        )
        said = f"no line of the policy speaks of {left.cell.attack}; by its own rule: {left.result.verdict}. {left.result.summary}"
        ET.SubElement(case, "skipped", message=_text(said))
        suites.setdefault(name, []).append(case)

    root = ET.Element("testsuites", name=_text(outcome.name))
    for number, (name, cases) in enumerate(suites.items()):
        suite = ET.SubElement(root, "testsuite", name=_text(name), id=str(number), **_stamp(outcome))
        _properties(suite, outcome, cells[name])
        suite.extend(cases)
        _count(suite, cases)
    _count(root, [case for cases in suites.values() for case in cases])
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite_name(cell: Cell | None) -> str:
    if cell is None:
        return "the study"
    return cell.attack if cell.defense == "none" else f"{cell.attack} against {cell.defense}"


def _case(outcome: StudyOutcome, check: Check, spec: SpecText, seconds: float) -> ET.Element:
    seed = "" if check.cell is None else f", seed {check.cell.seed}"
    case = _element("testcase", f"{check.required}{seed}", outcome, check.cell, spec, seconds)
    if check.finding:
        case.set("line", str(spec.policy_line(check.rule)))
    properties = ET.SubElement(case, "properties")
    found = check.finding.measured if check.finding else None
    for name, value in _facts(check, found).items():
        ET.SubElement(properties, "property", name=name, value=_text(value))
    said = _text(f"{check.reason}. {check.text}" if check.reason else check.text)
    if check.verdict == "fail":
        kind = "policy" if check.finding else "verdict"
        ET.SubElement(case, "failure", type=kind, message=said).text = _body(check, outcome)
    elif check.verdict != "pass":
        ET.SubElement(case, "error", type=check.verdict, message=said).text = _body(check, outcome)
    return case


def _element(
    tag: str, name: str, outcome: StudyOutcome, cell: Cell | None, spec: SpecText, seconds: float
) -> ET.Element:
    place = outcome.name if cell is None else f"{outcome.name}.{_suite_name(cell)}"
    element = ET.Element(
        tag, name=_text(name), classname=_text(place), time=f"{seconds:.3f}", file=_text(spec.file)
    )
    element.set("line", str(spec.attack_line(cell.attack) if cell else 1))
    return element


def _facts(check: Check, found: Metric | None) -> dict[str, str]:
    facts = {"verdict": check.verdict, "rule": check.rule}
    if check.cell:
        facts |= {"seed": str(check.cell.seed), "defense": check.cell.defense}
    if found is not None:
        numbers = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
        facts |= {name: repr(number) for name, number in numbers.items() if number is not None}
        facts |= {"interval": found.interval} if found.interval else {}
    if check.finding:
        facts["bound"] = f"{check.finding.relation} {check.finding.bound!r}"
    if check.result:
        provenance = check.result.provenance
        facts |= {f"data.{name}": digest for name, digest in provenance.data_digests.items()}
        facts |= {"queries": str(check.result.cost.queries)}
        facts |= (
            {"target.fingerprint": provenance.target_fingerprint} if provenance.target_fingerprint else {}
        )
    return {_text(name): value for name, value in facts.items()}


def _properties(suite: ET.Element, outcome: StudyOutcome, cell: Cell | None) -> None:
    facts = {"run": outcome.run, "target": outcome.target, "command": outcome.command}
    results = [done.result for done in outcome.cells if cell is None or done.cell == cell]
    versions = results[0].provenance.versions if results else {}
    facts |= {f"version.{name}": version for name, version in versions.items()}
    properties = ET.SubElement(suite, "properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=_text(name), value=_text(value))


def _body(check: Check, outcome: StudyOutcome) -> str:
    lines = [check.text]
    if check.reason:
        lines.append(f"reason: {check.reason}")
    if check.finding:
        lines += [
            f"required: {check.required}",
            f"measured: {measured_text(check.finding.measured)}",
        ]
    if check.cell:
        lines.append(f"where: {check.cell.label}")
    if check.result and check.result.limits:
        lines += [f"limit: {limit}" for limit in check.result.limits]
    lines.append(f"again: {outcome.command}")
    return shortened(clean_text("\n".join(lines)), _MOST_BODY)


def _count(element: ET.Element, cases: list[ET.Element]) -> None:
    def number(tag: str) -> str:
        return str(sum(case.find(tag) is not None for case in cases))

    element.set("tests", str(len(cases)))
    element.set("failures", number("failure"))
    element.set("errors", number("error"))
    element.set("skipped", number("skipped"))
    element.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")


def _stamp(outcome: StudyOutcome) -> dict[str, str]:
    """When the study began, in UTC, without an offset, as the schema has it."""
    try:
        began = datetime.fromisoformat(outcome.started)
    except ValueError:
        return {}
    began = began.replace(tzinfo=UTC) if began.tzinfo is None else began.astimezone(UTC)
    return {"timestamp": f"{began:%Y-%m-%dT%H:%M:%S}"}


def _seconds(result: Result | None) -> float:
    return (result.cost.seconds or 0.0) if result else 0.0


def _text(text: str) -> str:
    return shortened(one_line(text), _MOST_MESSAGE)
