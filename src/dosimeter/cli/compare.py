"""``dosimeter compare``: two runs of the same audit, record by record where they keep records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dosimeter.cli.options import (
    AsJson,
    HomeFolder,
    StoreUrl,
    SummaryFile,
    add_summary,
    open_home,
    open_store_to_read,
)

if TYPE_CHECKING:
    from dosimeter.study.differences import RunComparison

_A_RUN = "a run, the beginning of its name, 'last', a report.json, or a folder with one."


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=f"Earlier: {_A_RUN}")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Later: likewise.")],
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit with 1 if something got worse, 2 if undetermined.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="Differences up to this size count as none.")] = 0.0,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="Compare only this metric; may be repeated (default: all)."
        ),
    ] = None,
    summary: SummaryFile = None,
    home: HomeFolder = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> int:
    """Compare two runs of the same audit."""
    from dosimeter.cli.display import print_json
    from dosimeter.report.step_summary import comparison_summary
    from dosimeter.study.compare_runs import compare_runs
    from dosimeter.study.saved import saved_outcome

    earlier, later = (
        saved_outcome(name, lambda: open_store_to_read(open_home(home), store)) for name in (before, after)
    )
    found = compare_runs(earlier, later, tolerance=tolerance, metrics=metric or ())
    code = found.exit_code(fail_if_worse=fail_if_worse)
    add_summary(summary, lambda: comparison_summary(found))
    if as_json:
        print_json({**found.model_dump(mode="json"), "verdict": found.verdict, "exit_code": code})
    else:
        print_comparison(found)
    return code


def print_comparison(found: RunComparison) -> None:
    """The table of differences, its legend, the reasons and what follows."""
    from dosimeter.cli.display import print_entry, print_table, verdict_line
    from dosimeter.report.differences import CAPTION, COLUMNS, conclusion, difference_rows, reasons

    print_table(
        f"{found.before.run} ({found.before.target}) and {found.after.run} ({found.after.target})",
        COLUMNS,
        difference_rows(found),
    )
    verdict_line(found.verdict, conclusion(found))
    for reason, where in reasons(found).items():
        print_entry("Why", f"{'; '.join(where)}: {reason}")
    for note in found.notes:
        print_entry("Note", note)
    if found.tests:
        print_entry("Read", CAPTION)
