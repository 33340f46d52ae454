"""``dosimeter report``: write the reports of a finished run again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli.options import (
    Artifacts,
    AsJson,
    HomeFolder,
    StoreUrl,
    open_artifacts,
    open_home,
    open_store_to_read,
)


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run, or the beginning of its name; 'last' is the newest.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder (default: where the run wrote them).")
    ] = None,
    home: HomeFolder = None,
    store: StoreUrl = None,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> None:
    """Write the reports of a finished run again; with --artifacts, make the files here and there the same."""
    from dosimeter.cli.display import print_json, print_text
    from dosimeter.report.keep import bring_together
    from dosimeter.report.write import write_reports

    remote = open_artifacts(artifacts)
    with closing(open_store_to_read(open_home(home), store)) as kept:
        record = kept.find(run)
        outcome = kept.outcome(record.id)
    folder = out or record.out
    paths = write_reports(outcome, folder)
    place: dict[str, str] = {}
    if remote is not None:
        paths += bring_together(outcome, paths, folder, remote)
        place = {"artifacts": remote.of(record.id)}
    if as_json:
        files = [str(path) for path in paths]
        print_json({"run": record.id, "verdict": outcome.verdict, "files": files, **place})
        return
    for path in [*paths, *place.values()]:
        print_text(str(path))
