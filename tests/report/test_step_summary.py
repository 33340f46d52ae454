import numpy as np

from dosimeter.core.result import Metric
from dosimeter.report.step_summary import append_summary, audit_summary, comparison_summary
from dosimeter.study.compare_runs import compare_runs
from dosimeter.study.outcome import Cell, PolicyFinding
from support.outcomes import measured
from support.outcomes import outcome as made


def finding(verdict, reason=None, **fields):
    metric = Metric(name="leak", value=0.5, low=0.4, high=0.6, n=80)
    return PolicyFinding(
        metric="skew.leak", relation="<=", bound=0.45, measured=metric, verdict=verdict, reason=reason,
        cell=Cell(attack="skew"), **fields,
    )  # fmt: skip


def test_every_check_is_a_row_and_every_doubt_is_said(tmp_path):
    reason = "the bound 0.45 lies within the interval"
    ended = made(
        measured(Metric(name="leak", value=0.5)), verdict="undetermined", findings=[finding("undetermined", reason)],
        summary="Nothing *can* be said.", next_step="Ask more.",
    )  # fmt: skip
    text = audit_summary(ended, tmp_path)
    lines = text.splitlines()
    assert lines[0] == "## ? Undetermined: words"
    assert "Nothing \\*can\\* be said." in lines
    assert any(
        line.startswith("| ? Undetermined | `skew.leak <= 0.45` | 0.5 ") and line.endswith("| seed 0 |")
        for line in lines
    )
    assert f"- {reason}" in text
    assert f"10 queries. Reports: `{tmp_path}`. Ask more." in text


def test_what_models_say_cannot_break_the_table(tmp_path):
    cell = Cell(attack="skew", defense="a|b\n<script>")
    text = audit_summary(made(measured(Metric(name="m", value=1), cell=cell), name="x\n## y"), tmp_path)
    (row,) = [line for line in text.splitlines() if line.startswith("| ✓")]
    assert row.count(" | ") == 3
    assert "<script>" not in row.replace("\\<script\\>", "")
    assert "\n## y" not in text


def test_many_checks_are_cut_and_counted(tmp_path):
    cells = [measured(Metric(name="m", value=1), cell=Cell(attack="skew", seed=seed)) for seed in range(130)]
    text = audit_summary(made(*cells), tmp_path)
    assert "30 more checks are in the report." in text
    assert text.count("| ✓ Pass |") == 100


def test_differences_have_their_table_and_their_legend():
    before = made(measured(records={"leak": np.zeros(40)}))
    after = made(measured(records={"leak": np.ones(40)}), run="20260102-000000-bbbb")
    text = comparison_summary(compare_runs(before, after))
    assert text.startswith("## ✕ 20260101-000000-aaaa and 20260102-000000-bbbb")
    assert "| skew, seed 0 | leak | 0 | 1 | \\+1 \\[" in text
    assert "in four of five cases" in text


def test_a_summary_is_added_to_what_is_there(tmp_path):
    path = tmp_path / "summary.md"
    append_summary(path, "one\n")
    append_summary(path, "two\n")
    assert path.read_text() == "one\ntwo\n"
