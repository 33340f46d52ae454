import pytest

from dosimeter.core.progress import listening
from dosimeter.selftest import loaders
from dosimeter.selftest.crafting import Case
from dosimeter.selftest.report import SelftestCase, SelftestReport
from dosimeter.selftest.sandbox import LOADERS, Observation


@pytest.fixture(scope="module")
def report():
    return loaders.run()


def test_every_case_comes_out_as_it_should(report):
    assert [case for case in report.cases if not case.ok] == []
    assert report.ok


def test_the_corpus_is_large_and_touches_every_loader(report):
    hostile = [case for case in report.cases if case.outcome == "refused"]
    assert len(hostile) >= 60
    sound = {case.name.partition(":")[0] for case in report.cases if case.outcome in ("loaded", "not run")}
    assert sound >= {"weights", "arrays", "images", "text", "table", "yaml"}
    assert len({case.name for case in report.cases}) == len(report.cases)


def test_the_watch_notices_code_memory_hangs_crashes_and_tracebacks(report):
    seen = {case.outcome for case in report.cases if ": control-" in case.name}
    assert seen == {"ran code", "exhausted memory", "hung", "crashed", "left a traceback"}


def test_every_loader_of_the_corpus_is_known():
    assert {case.loader for case in loaders.corpus()} == set(LOADERS)


def test_a_crash_is_blamed_on_its_case_and_the_next_goes_on():
    sound = Case("a.yaml", "", "yaml", b"a: 1\n", "loaded")
    events = []
    with listening(events.append):
        cases = loaders.observe_all([sound, Case("b", "", "crashes", b"", "refused"), sound])
    assert [(case.outcome, case.ok) for case in cases] == [
        ("loaded", True),
        ("crashed", False),
        ("loaded", True),
    ]
    assert cases[1].detail == "expected: refused; the process died with SIGABRT"
    assert (events[-1].done, events[-1].total) == (3, 3)


@pytest.mark.parametrize(
    ("expect", "outcome", "ok"),
    [
        ("refused", "refused", True),
        ("refused", "loaded", False),
        ("refused", "ran code", False),
        ("loaded", "refused", False),
        ("refused", "not run", True),
        ("ran code", "refused", False),
    ],
)
def test_cases_are_judged_by_what_should_happen(expect, outcome, ok):
    assert loaders.judge(Case("a", "", "yaml", b"", expect), Observation(outcome)).ok is ok


def test_a_report_without_cases_shows_nothing():
    assert not SelftestReport("x", []).ok
    report = SelftestReport("x", [SelftestCase("a", "b", "c", True)])
    assert report.as_dict() == {
        "name": "x",
        "ok": True,
        "cases": [{"name": "a", "what": "b", "outcome": "c", "ok": True, "detail": ""}],
    }
