"""``dosimeter compare``, on runs of the example plug-in and on reports that were kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dosimeter.cli.app import app

LEVEL, LOPSIDED = [0] * 30 + [1] * 30, [0] * 55 + [1] * 5


def run(*args: object):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def two_runs(audit_folder: Path) -> Path:
    """Runs into ``before`` and ``after``: the service's answers became more lopsided."""
    for name, labels in (("before", LEVEL), ("after", LOPSIDED)):
        np.save(audit_folder / "labels.npy", np.array(labels))
        assert run("audit", "audit.yaml", "--out", name, "--fresh").exit_code == 0
    return audit_folder


def test_a_change_for_the_worse_is_shown_and_closes_the_gate(two_runs: Path):
    result = run("compare", "before/report.json", "after")
    assert result.exit_code == 0
    for expected in ("skew", "+0.417 [", "worse", "< 0.001", "four of five"):
        assert expected in result.stdout
    assert run("compare", "before", "after", "--fail-if-worse").exit_code == 1
    assert run("compare", "after", "before", "--fail-if-worse").exit_code == 0
    assert run("compare", "before", "after", "--fail-if-worse", "--tolerance", "0.5").exit_code == 0


def test_json_is_one_document(two_runs: Path):
    result = run("compare", "before", "after", "--fail-if-worse", "--metric", "skew", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["exit_code"], document["verdict"]) == (1, 1, "fail")
    (row,) = document["rows"]
    assert (row["metric"], row["basis"], row["n"], row["finding"]) == ("skew", "paired", 60, "worse")
    assert row["difference"] == pytest.approx(25 / 60)


def test_nothing_to_compare_exits_with_2(two_runs: Path):
    text = (two_runs / "audit.yaml").read_text()
    (two_runs / "audit.yaml").write_text(text.replace("[label-skew]", "[{label-skew: {inputs: 20}}]"))
    assert run("audit", "audit.yaml", "--out", "other").exit_code == 0
    result = run("compare", "before", "other")
    assert result.exit_code == 2
    assert "the attack had different settings (inputs)" in result.stdout
    assert run("compare", "before", "other", "--fail-if-worse").exit_code == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere.json", "after"), "there is no report nowhere.json"),
        (("before", "2020"), "no run begins with '2020'"),
        (("audit.yaml", "after"), "is no report of this version of Dosimeter"),
        (("before", "after", "--metric", "skiw"), "did you mean 'skew'?"),
        (("before", "after", "--tolerance", "-1"), "--tolerance"),
        (("before",), "Missing argument 'AFTER'"),
    ],
)
def test_wrong_input_is_one_sentence(two_runs: Path, args: tuple[str, ...], said: str):
    result = run("compare", *args)
    assert result.exit_code == 4
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_store_nothing_is_made(audit_folder: Path):
    result = run("compare", "last", "last", "--home", "nothing")
    assert result.exit_code == 4
    assert "there are no runs in" in result.stderr
    assert not Path("nothing").exists()


def test_results_are_added_to_a_summary(two_runs: Path):
    run("audit", "audit.yaml", "--out", "again", "--fresh", "--summary", "summary.md")
    run("compare", "before", "after", "--summary", "summary.md")
    text = Path("summary.md").read_text()
    assert text.startswith("## ✓ Pass: words")
    assert "\n## ✕ " in text
    before = set(Path().iterdir())
    for command in (("audit", "audit.yaml", "--fresh"), ("compare", "before", "after")):
        result = run(*command, "--summary", "nowhere/summary.md")
        assert result.exit_code == 4
        assert "cannot write the summary to nowhere/summary.md" in result.stderr
    assert set(Path().iterdir()) == before
