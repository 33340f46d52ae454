"""The pytest plug-in: a fixture ``audit`` that runs a study and holds what it measured against thresholds in the test.

    def test_release(audit):
        outcome = audit("audit.yaml")
        audit.require(outcome, {"encoder-inference.identified": "== 0"})

Loading it imports nothing but pytest: what a test does not use costs it nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dosimeter.study.outcome import PolicyFinding, StudyOutcome
    from dosimeter.study.spec import StudySpec

_LINE = "dosimeter"
_UNDECIDED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where audits report to, and where they keep what they know."""
    group = parser.getgroup("dosimeter", "audits with Dosimeter")
    group.addoption(
        "--dosimeter-out",
        metavar="DIR",
        help="Keep the reports of audits, one folder per test (default: temporary).",
    )
    group.addoption(
        "--dosimeter-home",
        metavar="DIR",
        help="State folder that audits share: answers are asked once, killed audits resume (default: one per test, temporary).",
    )


class Auditor:
    """Runs audits for one test; what the fixture ``audit`` gives."""

    def __init__(self, request: pytest.FixtureRequest, temporary: Path) -> None:
        self._item, self._here = request.node, request.path.parent
        shared, kept = (request.config.getoption(f"--dosimeter-{name}") for name in ("home", "out"))
        invoked = request.config.invocation_params.dir
        self._home = temporary / "home" if shared is None else invoked / shared
        self._out = (
            temporary / "reports" if kept is None else invoked / kept / _folder_name(self._item.nodeid)
        )
        self._folders: dict[str, Path] = {}

    def __call__(
        self,
        spec: str | Path | StudySpec | None = None,
        *,
        target: Any = None,
        attacks: Any = (),
        trust: bool = False,
        jobs: int = 1,
        **options: Any,
    ) -> StudyOutcome:
        """Run an audit and return its outcome, whatever its verdict; an audit that cannot begin fails the test.

        Args:
            spec: a spec, or the path of one: from the current folder, or else from the folder of the test.
            target, attacks: in place of a spec, objects, as :func:`dosimeter.study.objects.run_objects` takes them;
                ``options`` are its other arguments (``defenses``, ``public``, ``policy``, ``budget``, ``seeds``, ``name``).
            trust: read weight files that can run code.
            jobs: most processes for a spec; 1 works in this one.
        """
        from dosimeter.core.errors import DosimeterError

        if (spec is None) == (target is None):
            raise TypeError("audit() takes a spec, or target= and attacks=, and not both")
        if spec is not None and (options or attacks):
            given = ", ".join([*(["attacks"] if attacks else []), *options])
            raise TypeError(f"audit() takes {given} with target= only; write them into the spec")
        out = self._out / f"audit-{len(self._folders) + 1}"
        try:
            outcome = self._run(spec, trust, jobs, target, attacks, out, options)
        except DosimeterError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            pytest.fail(f"the audit could not run: {refused}", pytrace=False)
        self._folders[outcome.run] = out
        line = f"{outcome.verdict.upper()}  {outcome.name}: {outcome.summary} Report: {out / 'report.html'}"
        self._item.user_properties.append((_LINE, line))
        return outcome

    def _run(
        self,
        spec: str | Path | StudySpec | None,
        trust: bool,
        jobs: int,
        target: Any,
        attacks: Any,
        out: Path,
        options: dict[str, Any],
    ) -> StudyOutcome:
        from dosimeter.core.files import ensure_writable_folder
        from dosimeter.study.home import Home
        from dosimeter.study.store import Store

        home = Home(self._home.absolute())
        ensure_writable_folder(home.folder, flag="--dosimeter-home")
        with closing(Store(home.store_url)) as store:
            if spec is None:
                from dosimeter.study.objects import run_objects

                return run_objects(target, attacks, home=home, store=store, out=out, **options)
            from dosimeter.study.run import run_study

            return run_study(self._spec(spec, trust), home=home, store=store, out=out, jobs=jobs)

    def folder(self, outcome: StudyOutcome) -> Path:
        """Where the reports of ``outcome`` are."""
        return self._folders[outcome.run]

    def require(
        self,
        outcome: StudyOutcome,
        bounds: Mapping[str, str] | None = None,
        *,
        allow_undetermined: bool = False,
    ) -> None:
        """Fail the test unless every bound holds in every cell of its attack, or, without bounds, the audit passed.

        Intervals count as in a policy: a bound holds if the whole interval is on its good side, and is undetermined if
        it lies within.

        Args:
            bounds: ``{"slug.metric": "<= 0.05"}``.
            allow_undetermined: a test that is undetermined, and is not failed by anything else, is reported as skipped
                with the reason instead of failed. An audit that ended in an error always fails.
        """
        if bounds is None:
            findings = [(outcome.verdict, _said_of(outcome))]
        else:
            findings = [(finding.verdict, _said(finding)) for finding in _judged(outcome, bounds)]
            findings += [
                ("error", f"{done.cell.label} could not be completed: {done.result.reason}")
                for done in outcome.cells
                if done.result.verdict == "error"
            ]
        undecided = [text for verdict, text in findings if verdict == "undetermined"]
        failed = [text for verdict, text in findings if verdict in ("fail", "error")]
        if undecided and allow_undetermined:
            self._item.stash.setdefault(_UNDECIDED, []).extend(undecided)
        elif undecided:
            failed += undecided
        if failed:
            lines = "\n".join(f"  - {text}" for text in failed)
            report = self._folders.get(outcome.run)
            where = f"\nReport: {report / 'report.html'}" if report else ""
            pytest.fail(f"{outcome.name}: what is required does not hold\n{lines}{where}", pytrace=False)

    def _spec(self, spec: str | Path | StudySpec, trust: bool) -> StudySpec:
        from dosimeter.study.spec import StudySpec, load_spec

        if isinstance(spec, StudySpec):
            return spec
        beside = self._here / spec
        return load_spec(beside if beside.exists() and not Path(spec).exists() else spec, trust=trust)


@pytest.fixture
def audit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    """Run an audit and hold its figures against thresholds: ``audit(spec)``, then ``audit.require(outcome, bounds)``."""
    yield Auditor(request, tmp_path_factory.mktemp("dosimeter"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that passed but for what is undetermined, and allows that, counts as skipped."""
    report = yield
    undecided = item.stash.get(_UNDECIDED, [])
    if report.when == "call" and report.passed and undecided:
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, (line or 0) + 1, f"Skipped: undetermined: {'; '.join(undecided)}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per audit."""
    lines = [
        f"{report.nodeid}  {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == _LINE
    ]
    if lines:
        terminalreporter.section("dosimeter audits")
        for line in lines:
            terminalreporter.write_line(line)


def _folder_name(nodeid: str) -> str:
    """A folder of the test's own: readable, and different for different tests."""
    import hashlib
    import re

    readable = re.sub(r"[^A-Za-z0-9]+", "-", nodeid)[-80:].strip("-")
    return f"{readable}-{hashlib.sha256(nodeid.encode()).hexdigest()[:6]}"


def _judged(outcome: StudyOutcome, bounds: Mapping[str, str]) -> list[PolicyFinding]:
    from pydantic import ValidationError

    from dosimeter.study.policy import judge_bounds
    from dosimeter.study.spec import Bound

    parsed: dict[str, Bound] = {}
    slugs = {done.cell.attack for done in outcome.cells}
    for key, text in bounds.items():
        if not any(key.startswith(f"{slug}.") for slug in slugs):
            pytest.fail(
                f"'{key}' is not a metric of this audit; write it as 'slug.metric' with one of {', '.join(sorted(slugs))} as "
                "slug",
                pytrace=False,
            )
        try:
            parsed[key] = Bound.model_validate(text)
        except ValidationError:
            pytest.fail(
                f"'{key}': expected a relation and a number, as in '<= 0.05', but got {text!r}", pytrace=False
            )
    return judge_bounds(parsed, outcome.cells)


def _said(finding: PolicyFinding) -> str:
    """``encoder-inference.identified is 1, required == 0 (against jpeg, seed 0)``."""
    measured = "not measured" if finding.measured is None else f"is {finding.measured}"
    where = f"seed {finding.cell.seed}"
    where = where if finding.cell.defense == "none" else f"against {finding.cell.defense}, {where}"
    reason = f" - {finding.verdict}: {finding.reason}" if finding.reason else ""
    return f"{finding.metric} {measured}, required {finding.relation} {finding.bound:g} ({where}){reason}"


def _said_of(outcome: StudyOutcome) -> str:
    said = [f"verdict is {outcome.verdict}: {outcome.summary}"]
    said += [_said(finding) for finding in outcome.findings if finding.verdict != "pass"]
    said += [f"{done.cell.label}: {done.result.reason}" for done in outcome.cells if done.result.reason]
    return "\n    ".join(said)
