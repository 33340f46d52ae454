"""Tests of the self-test that kills audits: it holds, and it notices what does not."""

import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from dosimeter.selftest import kill


def test_an_audit_survives_being_killed():
    report = kill.run(kills=4, seed=1)
    assert [case.name for case in report.cases if not case.ok] == []
    # The last one waits for the first file of the report, and a quick audit may have ended by then.
    assert report.cases[0].detail in ("3 kills landed", "4 kills landed")


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed")
def test_an_audit_on_ray_survives_being_killed(monkeypatch: pytest.MonkeyPatch):
    """Once, while queries are in flight; compared with a run that is not on Ray."""
    before = set(Path(tempfile.gettempdir()).glob("dosimeter-ray-*"))
    monkeypatch.setattr(kill, "_moments", lambda audit, service, *_: [kill._after_words(service, 60)])
    report = kill.run(kills=1, seed=3, engine="ray")
    assert {case.name: case.detail for case in report.cases if not case.ok} == {}
    assert report.cases[0].detail == "1 kills landed"
    deadline = time.monotonic() + 10
    while left := set(Path(tempfile.gettempdir()).glob("dosimeter-ray-*")) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_processes_that_go_on_are_noticed(tmp_path: Path):
    assert kill._processes_in(tmp_path, patience_seconds=0) == []
    left = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    assert kill._processes_in(tmp_path, patience_seconds=0.1) == [left.pid]
    left.kill()
    left.wait()


def test_lost_answers_are_noticed(monkeypatch: pytest.MonkeyPatch):
    """Between two starts the answers are thrown away: they are asked again, and that must be found."""
    look = kill._Observations.look

    def look_and_forget(self: kill._Observations) -> None:
        look(self)
        for path in self._audit.home.folder.glob("answers.sqlite*"):
            path.unlink()

    monkeypatch.setattr(kill._Observations, "look", look_and_forget)
    monkeypatch.setattr(kill, "_moments", lambda audit, service, *_: [kill._after_words(service, 100)])
    broken = {case.name for case in kill.run(kills=1).cases if not case.ok}
    assert {"paid once", "in flight"} <= broken
