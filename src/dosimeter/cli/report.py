"""``dosimeter report``: write the reports of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli.options import AsJson, HomeFolder, StoreUrl, open_home, open_store_to_read


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run, or the beginning of its name; 'last' is the newest.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder (default: where the run wrote them).")
    ] = None,
    home: HomeFolder = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write the reports of a finished run again."""
    from dosimeter.cli.display import print_json, print_text
    from dosimeter.report.write import write_reports

    kept = open_store_to_read(open_home(home), store)
    record = kept.find(run)
    outcome = kept.outcome(record.id)
    paths = write_reports(outcome, out or record.out)
    if as_json:
        print_json({"run": record.id, "verdict": outcome.verdict, "files": [str(path) for path in paths]})
        return
    for path in paths:
        print_text(str(path))
