"""The plug-in in pytest runs of its own, inside this process."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dosimeter.study.objects  # noqa: F401
from dosimeter.study.home import Home
from dosimeter.study.run import run_study
from dosimeter.study.spec import load_spec

pytest_plugins = ["pytester"]

OBJECTS = """
    from dosimeter import CallableTarget
    from label_skew import LabelSkew

    texts = [f"text {number}" for number in range(40)]

    def service(batch):
        return [len(text) % 2 for text in batch]

    def of_objects(audit, **options):
        target = CallableTarget(service, modality="text", returns="label", name="lengths")
        return audit(target=target, attacks=[LabelSkew()], public=texts, **options)
"""


@pytest.fixture
def project(
    pytester: pytest.Pytester, audit_folder: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A project with ``audit.yaml`` (skew 0.75, n = 60) whose tests use the plug-in."""
    everything_imported(audit_folder, tmp_path_factory)
    for path in audit_folder.iterdir():
        if path.is_file():
            (pytester.path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(pytester.path)
    return pytester


_IMPORTED: list[bool] = []


def everything_imported(folder: Path, temporary: pytest.TempPathFactory) -> None:
    """A run inside this process forgets what it imports, and compiled modules do not bear being imported twice."""
    if not _IMPORTED:
        made = temporary.mktemp("imported")
        run_study(load_spec(folder / "audit.yaml"), home=Home(made / "home"), out=made / "out")
        _IMPORTED.append(True)


def run(
    project: pytest.Pytester, *bodies: str, options: tuple[str, ...] = (), head: str = ""
) -> pytest.RunResult:
    """Tests ``test_0``, ``test_1``, ... with ``bodies``."""
    tests = [
        f"def test_{number}(audit):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
        for number, body in enumerate(bodies)
    ]
    project.makepyfile(test_release="\n\n\n".join([textwrap.dedent(head), *tests]))
    return project.runpytest_inprocess("-p", "no:cacheprovider", "-rs", *options)


def test_bounds_are_held_against_the_figures(project):
    result = run(
        project,
        'audit.require(audit("audit.yaml"), {"label-skew.skew": "<= 0.9"})',
        'audit.require(audit("audit.yaml"), {"label-skew.skew": "<= 0.5"})',
        'audit.require(audit("audit.yaml"), {"label-skew.skew": "<= 0.75"})',
        """
        outcome = audit("audit.yaml")
        audit.require(outcome, {"label-skew.skew": "<= 0.75"}, allow_undetermined=True)
        audit.require(outcome, {"label-skew.skew": "<= 0.9"})
        """,
        """
        outcome = audit("audit.yaml")
        audit.require(outcome, {"label-skew.skew": "<= 0.75"}, allow_undetermined=True)
        audit.require(outcome, {"label-skew.skew": "<= 0.5"})
        """,
        options=("--dosimeter-out", "reports"),
    )
    result.assert_outcomes(passed=1, failed=3, skipped=1)
    result.stdout.fnmatch_lines(
        [
            # What fails says what, the figure, the bound and the place of the report.
            "words: what is required does not hold",
            "  - label-skew.skew is 0.75 [[]0.6214, 0.8528[]], required <= 0.5 (seed 0)",
            "Report: *reports/test-release-py-test-1-*/audit-1/report.html",
            # What is undetermined fails ...
            "*is 0.75*required <= 0.75*undetermined: the bound 0.75 lies within the interval*",
            # ... and every audit has its line,
            "*= dosimeter audits =*",
            # ... unless it is allowed: then it is a skip with its reason, in spite of what holds and unless something fails.
            "SKIPPED*undetermined: label-skew.skew is 0.75*the bound 0.75 lies within*",
        ]
    )
    audits = [
        line for line in result.outlines if line.startswith("test_release.py::test_") and "  PASS  " in line
    ]
    assert len(audits) == 5
    assert audits[0].startswith("test_release.py::test_")
    assert "PASS  words: The most frequent label is 45 of 60 answers. Report: " in audits[0]
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")
    assert len(list((project.path / "reports").glob("*/audit-1/report.json"))) == 5


def test_without_bounds_the_audit_s_own_verdict_counts(project):
    spec = (project.path / "audit.yaml").read_text()
    for name, bound in (("good", "<= 0.9"), ("bad", "<= 0.5")):
        (project.path / f"{name}.yaml").write_text(spec + f'policy: {{"label-skew.skew": "{bound}"}}\n')
    result = run(project, *(f'audit.require(audit("{name}.yaml"))' for name in ("good", "bad")))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["  - verdict is fail: *", "*label-skew.skew is 0.75*required <= 0.5*"])


def test_an_audit_that_ends_in_an_error_fails_whatever_is_allowed(project, trouble):
    path = trouble("{mode: target}")
    body = f"""
    outcome = audit({str(path)!r})
    assert outcome.verdict == "error"
    audit.require(outcome, {{"trouble.value": "<= 1"}}, allow_undetermined=True)
    """
    result = run(project, body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*trouble, seed 0 could not be completed: the service is gone.*"])


WRONG = {
    'audit("nowhere.yaml")': "the audit could not run: *nowhere.yaml*",
    'audit("bad.yaml")': "the audit could not run: bad.yaml: 2 problems",
    'audit.require(audit("audit.yaml"), {"label-squew.skew": "<= 1"})': (
        "'label-squew.skew' is not a metric of this audit; *label-skew as slug"
    ),
    'audit.require(audit("audit.yaml"), {"label-skew.skew": "at most 1"})': (
        "'label-skew.skew': expected a relation and a number, as in '<= 0.05', but got 'at most 1'"
    ),
    'audit.require(audit("audit.yaml"), {"label-skew.squew": "<= 1"})': (
        "*label-skew reports no metric 'squew'; did you mean 'skew'[?]"
    ),
    "audit()": "*TypeError: audit() takes a spec, or target= and attacks=, and not both",
    'audit("audit.yaml", policy={})': "*TypeError: audit() takes policy with target= only*",
    'of_objects(audit, policy={"skew": "<= 1"})': "*policy: 'skew' is not a metric of an attack in this spec*",
    'of_objects(audit, budget={"queries": 0})': "*budget.queries*greater than or equal to 1*",
    'of_objects(audit, defenses=["jpeg"])': "*expected a Defense of Dosimeter, but got an object of type str.*",
    "of_objects(audit, seeds=[])": "*seeds: must be one or more different whole numbers*",
    "audit(target=3, attacks=[LabelSkew()])": "*expected a Target of Dosimeter, but got an object of type int.*",
}


def test_what_is_wrong_fails_with_one_sentence(project):
    (project.path / "bad.yaml").write_text((project.path / "audit.yaml").read_text().replace("name:", "nam:"))
    result = run(project, *WRONG, head=OBJECTS)
    result.assert_outcomes(failed=len(WRONG))
    for said in WRONG.values():
        result.stdout.fnmatch_lines([said])


def test_objects_in_place_of_a_spec(project):
    body = """
    from dosimeter import CharacterFlips
    outcome = of_objects(
        audit, defenses=[None, CharacterFlips(rate=0.5)], policy={"label-skew.skew": "<= 0.9"}, seeds=[0, 1]
    )
    assert [finding.verdict for finding in outcome.findings] == ["pass"] * 4
    assert [done.cell.defense for done in outcome.cells][::2] == ["none", "character-flips(rate=0.5)"]
    assert (audit.folder(outcome) / "report.html").exists()
    audit.require(outcome)
    with_budget = of_objects(audit, budget={"queries": 3})
    assert with_budget.verdict == "undetermined"
    """
    result = run(project, body, head=OBJECTS)
    result.assert_outcomes(passed=1)
    assert len([line for line in result.outlines if "::test_0  " in line]) == 2


def test_tests_share_no_state_unless_asked(project):
    body = 'assert audit("audit.yaml").bill.sent == 60'
    run(project, body, body).assert_outcomes(passed=2)
    assert not (project.path / ".dosimeter").exists()
    again = 'assert audit("audit.yaml").bill.sent == 0'
    run(project, body, again, options=("--dosimeter-home", "state")).assert_outcomes(passed=2)


def test_a_spec_beside_the_test_is_found(project):
    folder = project.path / "checks"
    folder.mkdir()
    for name in ("audit.yaml", "words.txt", "labels.npy"):
        (project.path / name).rename(folder / name)
    (folder / "test_beside.py").write_text(
        'def test_beside(audit):\n    audit.require(audit("audit.yaml"))\n'
    )
    project.runpytest_inprocess("-p", "no:cacheprovider", "checks").assert_outcomes(passed=1)


def test_it_can_be_switched_off(project):
    result = run(project, "pass", options=("-p", "no:dosimeter"))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'audit' not found*"])


def test_loading_it_costs_next_to_nothing():
    code = (
        "import sys, time, pytest; before = set(sys.modules); start = time.perf_counter();"
        "import dosimeter.pytest_plugin; took = time.perf_counter() - start;"
        "heavy = {'numpy', 'scipy', 'pydantic', 'sqlalchemy', 'yaml', 'typer', 'torch'} & set(sys.modules) - before;"
        "sys.exit(repr(heavy) if heavy else 0 if took < 0.05 else f'{took:.3f} s')"
    )
    tries = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(3)]
    assert any(done.returncode == 0 for done in tries), [done.stderr for done in tries]
