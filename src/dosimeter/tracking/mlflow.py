"""MLflow: one run per audit, and below it one per cell with its parameters, metrics with intervals, and its result."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dosimeter.core.errors import DosimeterError, MissingExtra
from dosimeter.report.write import FORMATS
from dosimeter.study.outcome import CellOutcome, StudyOutcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow takes in one request and in one value.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _MOST_CHARACTERS = 1000, 100, 500
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_\-. :/]")
# By default MLflow tries for minutes; an audit that is done should not wait that long for a server that is gone.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class TrackingError(DosimeterError):
    """The tracker could not be told; the audit itself is complete."""


@dataclass(frozen=True)
class Tracked:
    """Where an audit was logged."""

    uri: str
    experiment: str
    run_id: str


def check_installed() -> None:
    """Raise ``MissingExtra`` where MLflow is not installed, without importing it: before an audit begins."""
    if find_spec("mlflow") is None:
        raise MissingExtra("--mlflow", "mlflow")


def log_outcome(
    outcome: StudyOutcome, folder: Path, *, uri: str | None = None, experiment: str | None = None
) -> Tracked:
    """Log ``outcome``, whose reports are in ``folder``.

    Args:
        uri: tracking server, as MLflow takes it; what MLflow is configured to use if not given.
        experiment: name of the experiment; that of the audit if not given.

    Raises:
        MissingExtra: MLflow is not installed.
        TrackingError: it could not be logged, or not all of it.
    """
    check_installed()
    with _patience():
        from mlflow import MlflowClient

        shown = "the MLflow server" if uri is None else f"MLflow at {_without_password(uri)}"
        try:
            client = MlflowClient(tracking_uri=uri)
            run_id = _log(client, outcome, folder, experiment or outcome.name)
            return Tracked(_without_password(client.tracking_uri), experiment or outcome.name, run_id)
        except Exception as error:  # MLflow lets through what its stores and its HTTP library raise
            said = _without_password(" ".join(str(error).split()))[:300].rstrip(".")
            raise TrackingError(
                f"{shown} could not be told of run {outcome.run}: {type(error).__name__}: {said}. The audit is complete; its "
                f"reports are in {folder}."
            ) from error


def _log(client: MlflowClient, outcome: StudyOutcome, folder: Path, experiment: str) -> str:
    found = client.get_experiment_by_name(experiment)
    experiment_id = client.create_experiment(experiment) if found is None else found.experiment_id
    tags = {
        "dosimeter.run": outcome.run,
        "dosimeter.verdict": outcome.verdict,
        "dosimeter.target": outcome.target,
        "dosimeter.command": outcome.command,
        "mlflow.note.content": outcome.summary,
    }
    bill = {"queries": outcome.bill.queries, "money": outcome.bill.money, "seconds": outcome.bill.seconds}
    with _run(client, experiment_id, outcome.name, tags) as parent:
        _log_batches(client, parent, {"target": outcome.target}, {f"bill.{k}": v for k, v in bill.items()})
        for done in outcome.cells:
            _log_cell(client, experiment_id, parent, outcome, done, folder)
        for name in FORMATS:  # not whatever else lies in the folder
            if (folder / name).is_file():
                client.log_artifact(parent, str(folder / name), "reports")
    return parent


def _log_cell(
    client: MlflowClient,
    experiment_id: str,
    parent: str,
    outcome: StudyOutcome,
    done: CellOutcome,
    folder: Path,
) -> None:
    cell, result = done.cell, done.result
    tags = {
        "mlflow.parentRunId": parent,
        "dosimeter.run": outcome.run,
        "dosimeter.verdict": result.verdict,
        "mlflow.note.content": result.summary,
        **({"dosimeter.reason": result.reason} if result.reason else {}),
        **{f"dosimeter.data.{name}": digest for name, digest in result.provenance.data_digests.items()},
        **{f"dosimeter.version.{name}": text for name, text in result.provenance.versions.items()},
    }
    params = {
        "attack": cell.attack,
        "defense": cell.defense,
        "seed": cell.seed,
        "target_fingerprint": result.provenance.target_fingerprint,
        **dict(_flat(result.provenance.hyperparameters, "")),
    }
    metrics: dict[str, float | None] = {
        "cost.queries": result.cost.queries,
        "cost.money": result.cost.money,
        "cost.seconds": result.cost.seconds,
    }
    for metric in result.metrics:
        metrics |= {
            metric.name: metric.value,
            f"{metric.name}.low": metric.low,
            f"{metric.name}.high": metric.high,
        }
    with _run(client, experiment_id, cell.label, tags) as run_id:
        _log_batches(client, run_id, params, metrics)
        client.log_text(run_id, result.to_json(), "result.json")
        for artifact in result.artifacts:
            path = (folder / artifact.path).resolve()
            if path.is_file() and path.is_relative_to(folder.resolve()):
                client.log_artifact(run_id, str(path), "artifacts")


@contextmanager
def _run(client: MlflowClient, experiment_id: str, name: str, tags: dict[str, str]) -> Iterator[str]:
    """A run that ends as finished, or as failed where not all of it could be logged."""
    given = {_name(key): value[:5000] for key, value in tags.items()}
    run_id = str(client.create_run(experiment_id, tags=given, run_name=name).info.run_id)
    try:
        yield run_id
    except BaseException:
        _end_as_failed(client, run_id)
        raise
    client.set_terminated(run_id, "FINISHED")


def _end_as_failed(client: MlflowClient, run_id: str) -> None:
    try:
        client.set_terminated(run_id, "FAILED")
    except Exception:
        return  # whatever ended the run is on its way up already


def _log_batches(
    client: MlflowClient, run_id: str, params: dict[str, Any], metrics: dict[str, float | None]
) -> None:
    from mlflow.entities import Metric, Param

    measured = [Metric(_name(key), float(value), 0, 0) for key, value in metrics.items() if value is not None]
    given = [Param(_name(key), _shortened(str(value))) for key, value in params.items()]
    for start in range(0, len(given), _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=given[start : start + _PARAMS_AT_ONCE])
    for start in range(0, len(measured), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=measured[start : start + _METRICS_AT_ONCE])


def _flat(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Settings within settings as ``synthesis.steps``; lists stay whole."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{place}.{key}" if place else str(key))
    elif place:
        yield place, value


def _name(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text)[:250]


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _without_password(uri: str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


@contextmanager
def _patience() -> Iterator[None]:
    """Whatever the user has not set about retries is set for the length of the block."""
    added = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
