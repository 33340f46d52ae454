"""Tests of the self-test that kills audits: it holds, and it notices what does not."""

import pytest

from dosimeter.selftest import kill


def test_an_audit_survives_being_killed():
    report = kill.run(kills=4, seed=1)
    assert [case.name for case in report.cases if not case.ok] == []
    # The last one waits for the first file of the report, and a quick audit may have ended by then.
    assert report.cases[0].detail in ("3 kills landed", "4 kills landed")


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
