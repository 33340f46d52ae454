"""``dosimeter audit``: run a study and write its reports."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dosimeter.cli.options import (
    Artifacts,
    AsJson,
    HomeFolder,
    Spec,
    StoreUrl,
    SummaryFile,
    Trust,
    add_summary,
    open_artifacts,
    open_home,
    open_store,
    read_spec,
)
from dosimeter.cli.tracking import MlflowRequired, MlflowUri, UseMlflow, log_to_mlflow

if TYPE_CHECKING:
    from dosimeter.study.outcome import StudyOutcome


class EngineName(StrEnum):
    """Where cells are worked on."""

    local = "local"
    ray = "ray"


def audit(
    spec: Spec = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the reports (default: dosimeter-runs/<run>).")
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Where cells are worked on.")] = EngineName.local,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster that this machine is a node of (default: one started for the study)."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Most processes at once.")] = None,
    threads: Annotated[
        int,
        typer.Option(min=1, envvar="DOSIMETER_THREADS", help="Threads per cell; more can help large models."),
    ] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew instead of resuming an unfinished run.")
    ] = False,
    trust: Trust = False,
    summary: SummaryFile = None,
    mlflow: UseMlflow = False,
    mlflow_uri: MlflowUri = None,
    mlflow_required: MlflowRequired = False,
    home: HomeFolder = None,
    store: StoreUrl = None,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> int:
    """Run an audit and write its reports and its verdict."""
    from dosimeter.cli.display import print_json, reporting
    from dosimeter.core.result import VERDICT_EXIT
    from dosimeter.report.step_summary import audit_summary
    from dosimeter.study.engine import engine_named
    from dosimeter.study.run import run_study

    if mlflow or mlflow_required:
        from dosimeter.tracking.mlflow import check_installed

        check_installed()
    study = read_spec(spec, trust)
    add_summary(summary, lambda: "")  # one that cannot be written is noticed before anything runs
    making = engine_named(engine.value, address=address)
    remote = open_artifacts(artifacts)
    state = open_home(home)
    with closing(open_store(state, store)) as runs, reporting():
        outcome = run_study(
            study,
            out=out,
            home=state,
            store=runs,
            engine=making,
            jobs=jobs,
            threads=threads,
            fresh=fresh,
            artifacts=remote,
        )
        folder = runs.find(outcome.run).out
    code = VERDICT_EXIT[outcome.verdict]
    add_summary(summary, lambda: audit_summary(outcome, folder))
    tracked: dict[str, Any] = {}
    if mlflow or mlflow_required:
        said, code = log_to_mlflow(outcome, folder, mlflow_uri, code=code, required=mlflow_required)
        tracked = {"mlflow": said}
    if as_json:
        kept = {} if remote is None else {"artifacts": remote.of(outcome.run)}
        document = {**outcome.model_dump(mode="json"), "out": str(folder), "exit_code": code}
        print_json({**document, **kept, **tracked})
    else:
        print_outcome(outcome, folder, None if remote is None else remote.of(outcome.run))
    return code


def print_outcome(outcome: StudyOutcome, folder: Path, artifacts: str | None = None) -> None:
    """The verdict table, where the report lies, here and in a remote place, and the next step."""
    from dosimeter.cli.display import print_entry, print_table, verdict_line
    from dosimeter.report.wording import number_text, seconds_text

    several_seeds = len({cell.cell.seed for cell in outcome.cells}) > 1
    seed = ["seed"] if several_seeds else []
    print_table(
        f"{outcome.name}: {outcome.target} ({outcome.target_access})",
        ["attack", "defence", *seed, "verdict", "queries", "finding"],
        [
            [
                cell.cell.attack,
                cell.cell.defense,
                *([cell.cell.seed] if several_seeds else []),
                cell.result.verdict,
                number_text(cell.result.cost.queries),
                cell.result.summary,
            ]
            for cell in outcome.cells
        ],
    )
    if outcome.findings:
        print_table(
            "Policy",
            ["metric", "allowed", "measured", "defence", *seed, "verdict"],
            [
                [
                    finding.metric,
                    f"{finding.relation} {finding.bound:g}",
                    finding.measured if finding.measured and finding.measured.value is not None else None,
                    finding.cell.defense,
                    *([finding.cell.seed] if several_seeds else []),
                    finding.verdict,
                ]
                for finding in outcome.findings
            ],
        )
    bill = outcome.bill
    limit = "" if bill.limit is None else f" of {number_text(bill.limit)} allowed"
    took = "" if bill.seconds is None else f", {seconds_text(bill.seconds)}"
    verdict_line(outcome.verdict, outcome.summary)
    for reason, where in _reasons(outcome).items():
        if reason not in outcome.next_step:
            print_entry("Why", f"{'; '.join(where)}: {reason}")
    print_entry("Cost", f"{number_text(bill.queries)} queries{limit}{took}")
    print_entry("Report", str(folder / "report.html"))
    if artifacts is not None:
        print_entry("Kept", artifacts)
    print_entry("Next", outcome.next_step)


def _reasons(outcome: StudyOutcome) -> dict[str, list[str]]:
    """Why something is undetermined or went wrong, and of which cells or policy lines that is said."""
    said: dict[str, list[str]] = {}
    for cell in outcome.cells:
        if cell.result.reason:
            said.setdefault(cell.result.reason, []).append(cell.cell.label)
    for finding in outcome.findings:
        if finding.reason and finding.reason not in said:
            said.setdefault(finding.reason, []).append(finding.metric)
    return said
