"""Tests of running studies: results whatever happens, resuming, budgets, and what is left on disk."""

import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dosimeter.core.errors import CapabilityError, InputError, SpecError
from dosimeter.core.ledger import Ledger
from dosimeter.core.progress import ProgressEvent, listening
from dosimeter.report.write import FORMATS
from dosimeter.study.home import Home, InUse
from dosimeter.study.outcome import StudyOutcome, comparable
from dosimeter.study.run import run_study
from dosimeter.study.spec import load_spec
from dosimeter.study.store import Store


def audit(path: Path, **options) -> StudyOutcome:
    return run_study(load_spec(path), **{"out": path.parent / "out", **options})


def runs() -> list:
    return Store(Home.default().store_url).runs()


def test_a_study_from_spec_to_report(audit_folder: Path):
    path = audit_folder / "audit.yaml"
    path.write_text(path.read_text() + 'policy: {"label-skew.skew": ">= 0.5"}\nbudget: {queries: 60}\n')
    outcome = audit(path)
    assert outcome.verdict == "pass"
    [finding] = outcome.findings
    assert finding.measured is not None
    assert finding.measured.value == 0.75
    assert (outcome.bill.queries, outcome.bill.sent, outcome.bill.lost, outcome.bill.limit) == (60, 60, 0, 60)
    assert outcome.spec == path.read_text()
    assert outcome.spec_file == "audit.yaml"
    assert outcome.command == f"dosimeter audit {path}"
    written = StudyOutcome.model_validate_json((audit_folder / "out" / "report.json").read_text())
    assert comparable(written) == comparable(outcome)
    assert (audit_folder / "out" / "report.html").exists()
    assert [run.status for run in runs()] == ["finished"]


def test_a_second_run_is_answered_from_the_cache(audit_folder: Path):
    first, second = (audit(audit_folder / "audit.yaml") for _ in range(2))
    assert first.run != second.run
    assert (first.bill.sent, second.bill.sent) == (60, 0)
    assert comparable(first) == comparable(second)


@pytest.mark.parametrize(
    ("settings", "verdict", "reason"),
    [
        ("{mode: target}", "error", "the service is gone."),
        ("{mode: bug}", "error", "a bug: ValueError: boom"),
        ("{mode: greedy}", "undetermined", "budget of 2 queries reached: 0 used, 60 more wanted."),
        ("{verdict: undetermined}", "undetermined", "for a reason"),
        ("{verdict: fail}", "fail", None),
    ],
)
def test_whatever_happens_is_a_result(
    trouble: Callable[..., Path], settings: str, verdict: str, reason: str | None
):
    outcome = audit(trouble(settings))
    [cell] = outcome.cells
    assert outcome.verdict == cell.result.verdict == verdict
    assert cell.result.reason == reason or str(cell.result.reason).startswith(str(reason))
    assert cell.result.title == "Trouble"


def test_a_bug_keeps_its_traceback_in_the_log(trouble: Callable[..., Path], caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR, "dosimeter"):
        audit(trouble("{mode: bug}"))
    assert "ValueError: boom" in str(caplog.records[0].exc_text or caplog.text)


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_that_cannot_be_opened_are_an_error_of_each_cell(
    trouble: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, workers: int
):
    monkeypatch.setattr("dosimeter.study.engine.worker_count", lambda cells, jobs: workers)
    home = Home.default()
    home.folder.mkdir()
    home.answers.write_bytes(b"no database" * 100)
    outcome = audit(trouble("{}", "seeds: [0, 1]\n"))
    assert outcome.verdict == "error"
    for cell in outcome.cells:
        assert cell.result.verdict == "error"
        assert str(cell.result.reason).startswith(
            f"cannot use the database {home.answers}: file is not a database."
        )
    assert outcome.bill.sent == 0
    home.answers.unlink()
    assert audit(trouble("{}", "seeds: [0, 1]\n")).verdict == "pass"


def test_time_is_a_budget_too(trouble: Callable[..., Path]):
    outcome = audit(trouble("{mode: slow}", "budget: {seconds: 0.3}\nseeds: [0, 1]\n"), jobs=1)
    assert [cell.result.verdict for cell in outcome.cells] == ["undetermined"] * 2
    assert "budget of 0.3 seconds reached" in str(outcome.cells[0].result.reason)
    assert outcome.bill.seconds is not None
    assert outcome.bill.seconds < 5


def test_cells_over_budget_are_results_too(audit_folder: Path, trouble: Callable[..., Path]):
    outcome = audit(
        trouble("{}", "budget: {queries: 3}\nseeds: [0, 1]\npolicy: {trouble.value: '<= 5'}\n"), jobs=1
    )
    assert [cell.result.verdict for cell in outcome.cells] == ["pass", "undetermined"]
    assert "budget too small" in str(outcome.cells[1].result.reason)
    assert outcome.verdict == "undetermined"
    assert Ledger(Home.default().ledger(outcome.run)).used <= 3


def test_an_error_outside_the_policy_still_counts(audit_folder: Path, trouble: Callable[..., Path]):
    path = trouble("{mode: target}")
    path.write_text(
        path.read_text().replace("attacks: [", "attacks: [label-skew, ")
        + "policy: {label-skew.skew: '<= 1'}\n"
    )
    outcome = audit(path, jobs=1)
    assert [finding.verdict for finding in outcome.findings] == ["pass"]
    assert outcome.verdict == "error"


def test_nothing_that_can_run_is_an_error_before_any_work(audit_folder: Path, trouble: Callable[..., Path]):
    path = trouble("{}", "defenses: [jpeg-inputs]\n")
    with pytest.raises(CapabilityError, match="jpeg-inputs cannot run on target"):
        audit(path)
    assert runs() == []


def test_an_interrupted_run_goes_on_where_it_was(
    trouble: Callable[..., Path], caplog: pytest.LogCaptureFixture
):
    path = trouble("{mode: interrupt-once}", "seeds: [0, 1, 2]\n")
    with pytest.raises(KeyboardInterrupt):
        audit(path, jobs=1)
    assert [run.status for run in runs()] == ["running"]
    with caplog.at_level(logging.INFO, "dosimeter"):
        outcome = audit(path, jobs=1)
    assert "resuming run" in caplog.text
    assert [run.status for run in runs()] == ["finished"]
    assert outcome.bill.sent == 2  # the same two words for every seed, paid once
    elsewhere = Home(path.parent / "elsewhere")
    elsewhere.cache.mkdir(parents=True)
    (elsewhere.cache / "interrupted").touch()
    assert comparable(audit(path, jobs=1, home=elsewhere)) == comparable(outcome)


def test_fresh_begins_anew_and_another_folder_is_another_run(trouble: Callable[..., Path]):
    path = trouble("{mode: interrupt-once}")
    with pytest.raises(KeyboardInterrupt):
        audit(path)
    audit(path, out=path.parent / "other")
    assert sorted(run.status for run in runs()) == ["finished", "running"]
    audit(path, fresh=True)
    assert sorted(run.status for run in runs()) == ["finished", "finished", "running"]
    audit(path)
    assert sorted(run.status for run in runs()) == ["finished", "finished", "finished"]


def test_a_changed_target_makes_its_cells_anew(trouble: Callable[..., Path]):
    import numpy as np

    path = trouble("{mode: interrupt-once}", "defenses: [none]\n")
    with pytest.raises(KeyboardInterrupt):
        audit(path)
    np.save(path.parent / "labels.npy", np.ones(60, dtype=int))
    assert audit(path).bill.sent == 4  # two words of either target, in one run


def test_leftovers_of_killed_writers_are_removed(audit_folder: Path):
    (audit_folder / "out").mkdir()
    torn = audit_folder / "out" / ".report.html.abc.partial"
    torn.write_text("<ht")
    audit(audit_folder / "audit.yaml")
    assert not torn.exists()
    assert sorted(path.name for path in (audit_folder / "out").iterdir()) == sorted(FORMATS)


def test_two_audits_into_one_folder_do_not_mix(audit_folder: Path):
    from dosimeter.core.records import content_hash

    with (
        Home.default().alone(f"out-{content_hash(str(audit_folder / 'out'))}"),
        pytest.raises(InUse, match="another process"),
    ):
        audit(audit_folder / "audit.yaml")


@pytest.mark.parametrize("there", [False, True])
def test_what_cannot_run_leaves_no_empty_folder_of_reports(audit_folder: Path, there: bool):
    out = audit_folder / "out"
    if there:
        out.mkdir()
    text = (audit_folder / "audit.yaml").read_text().replace("[label-skew]", "[{label-skew: {inputs: 0}}]")
    (audit_folder / "audit.yaml").write_text(text)
    with pytest.raises(SpecError):
        run_study(load_spec(audit_folder / "audit.yaml"), out=out)
    assert out.exists() is there


def test_a_folder_that_cannot_be_written_is_said_before_any_work(audit_folder: Path):
    with pytest.raises(InputError, match=r"cannot write into .*audit.yaml/out.*--out"):
        audit(audit_folder / "audit.yaml", out=audit_folder / "audit.yaml" / "out")
    assert not (audit_folder / ".dosimeter" / "store.sqlite").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_cells_compute_with_the_threads_asked_for(
    trouble: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, workers: int
):
    monkeypatch.setattr("dosimeter.study.engine.worker_count", lambda cells, jobs: workers)
    outcome = audit(trouble("{}", "seeds: [0, 1]\n"), threads=3)
    assert [cell.result.metric("threads").value for cell in outcome.cells] == [3, 3]
    assert [run.threads for run in runs()] == [3]


def test_a_run_is_resumed_only_with_its_number_of_threads(trouble: Callable[..., Path]):
    path = trouble("{mode: interrupt-once}")
    with pytest.raises(KeyboardInterrupt):
        audit(path)
    audit(path, threads=2)
    assert sorted(run.status for run in runs()) == ["finished", "running"]


def test_workers_report_progress_and_a_crash_costs_one_cell(
    audit_folder: Path, trouble: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dosimeter.study.engine.worker_count", lambda cells, jobs: 2)
    path = trouble("{mode: killed}")
    path.write_text(path.read_text().replace("attacks: [", "attacks: [label-skew, ") + "seeds: [0, 1]\n")
    events: list[ProgressEvent] = []
    with listening(events.append):
        outcome = audit(path)
    assert [cell.result.verdict for cell in outcome.cells] == ["pass", "pass", "error", "error"]
    assert f"was ended by {signal.SIGKILL.name}" in str(outcome.cells[2].result.reason)
    asking = {f"label-skew, seed {seed}: asking labels" for seed in (0, 1)}
    assert asking & {event.task for event in events}  # whoever comes second finds the answers there
    assert [event.done for event in events if event.task == "cells"][-1] == 4


def test_processes_and_this_process_give_the_same(audit_folder: Path, monkeypatch: pytest.MonkeyPatch):
    path = audit_folder / "audit.yaml"
    path.write_text(path.read_text() + "seeds: [0, 1]\ndefenses: [none, {character-flips: {rate: 0}}]\n")
    alone = audit(path, jobs=1)
    monkeypatch.setattr("dosimeter.study.engine.worker_count", lambda cells, jobs: 2)
    together = audit(path, home=Home(audit_folder / "elsewhere"))
    assert comparable(alone) == comparable(together)
    assert json.dumps(comparable(alone)) == json.dumps(comparable(together))
