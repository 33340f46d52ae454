"""Options of ``audit`` that tell MLflow what was found, and what happens where it cannot be told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dosimeter.study.outcome import StudyOutcome

_COULD_NOT_COMPLETE = 3

UseMlflow = Annotated[
    bool, typer.Option("--mlflow", help="Log the audit to MLflow once its reports are written.")
]
MlflowUri = Annotated[
    str | None,
    typer.Option(
        "--mlflow-uri",
        envvar="MLFLOW_TRACKING_URI",
        help="Where --mlflow logs to (default: as MLflow is configured).",
    ),
]
MlflowRequired = Annotated[
    bool,
    typer.Option("--mlflow-required", help="As --mlflow, and exit with 3 where MLflow could not be told."),
]


def log_to_mlflow(
    outcome: StudyOutcome, folder: Path, uri: str | None, *, code: int, required: bool
) -> tuple[dict[str, Any], int]:
    """Log ``outcome``; what is said about it in JSON, and the exit code: ``code`` unless logging is required and failed.

    A failed policy stays a failed policy: only codes 0 and 2 give way to 3.
    """
    from dosimeter.cli.display import reporting
    from dosimeter.tracking.mlflow import TrackingError, log_outcome

    try:
        with reporting():
            tracked = log_outcome(outcome, folder, uri=uri)
    except TrackingError as error:
        print(f"warning: {error}", file=sys.stderr)
        lost = required and code in (0, 2)
        return {"error": str(error)}, _COULD_NOT_COMPLETE if lost else code
    return {"uri": tracked.uri, "experiment": tracked.experiment, "run_id": tracked.run_id}, code
