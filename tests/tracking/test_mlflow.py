"""Logging to MLflow: a store in a folder, a server that is gone, and no import unless asked for."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dosimeter.cli.app import app
from dosimeter.core.errors import MissingExtra
from dosimeter.core.result import Artifact, Metric
from dosimeter.report.write import FORMATS, write_reports
from dosimeter.study.outcome import Cell
from dosimeter.tracking import mlflow as tracking
from dosimeter.tracking.mlflow import TrackingError, log_outcome
from support.outcomes import measured, outcome

pytest.importorskip("mlflow")
AUDIT_WITHOUT = """
import sys
from dosimeter.cli.app import app
try:
    app(["audit", "audit.yaml", "--out", "out"])
except SystemExit as done:
    assert not done.code, done.code
assert not [name for name in sys.modules if name.partition(".")[0] == "mlflow"]
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return (tmp_path / "mlruns").as_uri()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is not there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"


def runs_in(uri: str, experiment: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id])


def test_an_audit_is_a_run_and_every_cell_one_below_it(store, tmp_path):
    out = tmp_path / "out"
    settings = {"steps": 3, "synthesis": {"kind": "beam", "width": 8}, "long": "x" * 900}
    cells = [Cell(attack="skew", seed=seed) for seed in (0, 1)]
    metric = Metric(name="agreement.from scratch (a)", value=0.5, low=0.4, high=0.6, higher_is_better=False)
    none = Metric(name="none", value=None, reason="too few records")
    ended = outcome(
        *[
            measured(metric, none, cell=cell, hyperparameters=settings, data_digests={"public": "d"})
            for cell in cells
        ]
    )
    artifact = Artifact(name="copy", path="artifacts/a/copy.bin", digest="d", bytes=1)
    result = ended.cells[0].result.model_copy(update={"artifacts": [artifact]})
    ended = ended.model_copy(
        update={"cells": [ended.cells[0].model_copy(update={"result": result}), ended.cells[1]]}
    )
    (out / "artifacts" / "a").mkdir(parents=True)
    (out / "artifacts" / "a" / "copy.bin").write_bytes(b"x")
    (out / "notes.txt").write_text("of somebody else")
    write_reports(ended, out)
    tracked = log_outcome(ended, out, uri=store)
    runs = {run.info.run_name: run for run in runs_in(store, "words")}
    parent = runs.pop("words")
    assert parent.info.run_id == tracked.run_id
    assert parent.data.tags["dosimeter.verdict"] == "pass"
    assert parent.data.metrics["bill.queries"] == 10
    assert set(runs) == {"skew, seed 0", "skew, seed 1"}
    first = runs["skew, seed 0"]
    assert first.data.tags["mlflow.parentRunId"] == tracked.run_id
    assert first.info.status == parent.info.status == "FINISHED"
    assert first.data.params["synthesis.width"] == "8"
    assert len(first.data.params["long"]) == 500
    name = "agreement.from scratch _a_"
    assert [first.data.metrics[name + end] for end in ("", ".low", ".high")] == [0.5, 0.4, 0.6]
    assert "none" not in first.data.metrics
    assert first.data.tags["dosimeter.data.public"] == "d"
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    logged = {item.path for item in client.list_artifacts(tracked.run_id, "reports")}
    assert logged == {f"reports/{name}" for name in FORMATS}
    assert {item.path for item in client.list_artifacts(first.info.run_id)} == {"artifacts", "result.json"}


def test_a_file_outside_of_the_reports_is_not_logged(store, tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "out").mkdir()
    ended = outcome(measured(Metric(name="m", value=1)))
    artifact = Artifact(name="a", path="../secret", digest="d", bytes=1)
    result = ended.cells[0].result.model_copy(update={"artifacts": [artifact]})
    ended = ended.model_copy(update={"cells": [ended.cells[0].model_copy(update={"result": result})]})
    log_outcome(ended, tmp_path / "out", uri=store)
    assert not list((tmp_path / "mlruns").rglob("secret"))


def test_many_settings_and_figures_go_in_several_requests(store, tmp_path):
    (tmp_path / "out").mkdir()
    metrics = [Metric(name=f"m{i}", value=i) for i in range(1100)]
    ended = outcome(measured(*metrics, hyperparameters={f"p{i}": i for i in range(250)}))
    log_outcome(ended, tmp_path / "out", uri=store)
    run = next(run for run in runs_in(store, "words") if "attack" in run.data.params)
    assert (len(run.data.params), run.data.metrics["m1099"]) == (254, 1099)


def test_what_fails_midway_ends_as_failed(store, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()

    def broken(*args):
        raise OSError("no room")

    monkeypatch.setattr(tracking, "_log_cell", broken)
    with pytest.raises(
        TrackingError, match=r"could not be told of run .*: OSError: no room\. The audit is complete"
    ):
        log_outcome(outcome(measured(Metric(name="m", value=1))), tmp_path / "out", uri=store)
    assert [run.info.status for run in runs_in(store, "words")] == ["FAILED"]


def test_a_server_that_is_gone_is_one_sentence_without_the_password(nobody, tmp_path):
    with pytest.raises(TrackingError) as refused:
        log_outcome(outcome(measured(Metric(name="m", value=1))), tmp_path, uri=nobody)
    assert str(refused.value).startswith("MLflow at http://127.0.0.1:")
    assert "secret" not in str(refused.value)


def audit(*args: str):
    return CliRunner().invoke(app, ["audit", "audit.yaml", "--out", "out", *args])


def test_the_command_logs_when_asked(store, audit_folder):
    result = audit("--mlflow", "--mlflow-uri", store, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["mlflow"]["run_id"] in {run.info.run_id for run in runs_in(store, "words")}
    assert len(runs_in(store, "words")) == 2


def test_the_environment_names_the_server_but_does_not_ask_for_it(store, audit_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert "mlflow" not in json.loads(audit("--json").stdout)
    assert json.loads(audit("--json", "--mlflow", "--fresh").stdout)["mlflow"]["uri"] == store


def test_a_server_that_is_gone_loses_no_audit(nobody, audit_folder):
    result = audit("--mlflow", "--mlflow-uri", nobody)
    assert result.exit_code == 0
    assert "warning: MLflow at http://127.0.0.1:" in result.stderr
    assert "PASS" in result.stdout
    assert json.loads(Path("out/report.json").read_text())["verdict"] == "pass"
    assert audit("--mlflow-required", "--mlflow-uri", nobody, "--fresh").exit_code == 3
    path = audit_folder / "audit.yaml"
    path.write_text(path.read_text() + 'policy: {"label-skew.skew": "<= 0.5"}\n')
    assert (
        audit("--mlflow-required", "--mlflow-uri", nobody).exit_code == 1
    )  # a policy that does not hold stays one


def test_without_the_package_nothing_is_run(audit_folder, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    result = audit("--mlflow")
    assert result.exit_code == 4
    assert "pip install 'dosimeter[mlflow]'" in result.stderr
    assert not Path("out").exists()
    with pytest.raises(MissingExtra):
        tracking.check_installed()


def test_without_the_option_mlflow_is_not_imported(audit_folder):
    done = subprocess.run([sys.executable, "-c", AUDIT_WITHOUT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
