"""What CI services show beside a job, as Markdown: a verdict with its checks, or the differences between two runs."""

from __future__ import annotations

from pathlib import Path

from dosimeter.report.checks import checks, measured_text
from dosimeter.report.differences import CAPTION, COLUMNS, conclusion, difference_rows, reasons
from dosimeter.report.markdown import code, escaped, shortened, table
from dosimeter.report.wording import NONE, VERDICT_SIGNS, VERDICT_WORDS, counted, seconds_text
from dosimeter.study.differences import RunComparison
from dosimeter.study.outcome import StudyOutcome

_MOST_ROWS = 100
_MOST_TEXT = 300


def audit_summary(outcome: StudyOutcome, folder: Path) -> str:
    """The verdict of ``outcome``, one row per check, the cost, and where the reports are."""
    found = checks(outcome)
    rows = [
        [
            f"{VERDICT_SIGNS[check.verdict]} {VERDICT_WORDS[check.verdict]}",
            code(check.required) if check.finding else escaped(check.required),
            escaped(
                measured_text(check.finding.measured) if check.finding else shortened(check.text, _MOST_TEXT)
            ),
            escaped(_where(check.cell.defense, check.cell.seed)) if check.cell else NONE,
        ]
        for check in found[:_MOST_ROWS]
    ]
    took = "" if outcome.bill.seconds is None else f", {seconds_text(outcome.bill.seconds)}"
    parts = [
        f"## {VERDICT_SIGNS[outcome.verdict]} {VERDICT_WORDS[outcome.verdict]}: {escaped(outcome.name)}",
        escaped(outcome.summary),
        table(["verdict", "required", "measured", "where"], rows) if rows else "",
        f"{len(found) - _MOST_ROWS} more checks are in the report." if len(found) > _MOST_ROWS else "",
        *(
            f"- {escaped(shortened(check.reason, _MOST_TEXT))}"
            for check in found[:_MOST_ROWS]
            if check.reason and check.verdict in ("undetermined", "error")
        ),
        f"{counted(outcome.bill.queries, 'query')}{took}. Reports: {code(str(folder))}. {escaped(outcome.next_step)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_summary(found: RunComparison) -> str:
    """The differences between two runs, and what follows from them."""
    rows = [[escaped(cell) if cell is not None else NONE for cell in row] for row in difference_rows(found)]
    parts = [
        f"## {VERDICT_SIGNS[found.verdict]} {escaped(found.before.run)} and {escaped(found.after.run)}",
        escaped(conclusion(found)),
        table(COLUMNS, rows[:_MOST_ROWS]) if rows else "",
        f"{len(rows) - _MOST_ROWS} more figures were compared." if len(rows) > _MOST_ROWS else "",
        *(
            f"- {escaped(shortened('; '.join(where), _MOST_TEXT))}: {escaped(reason)}"
            for reason, where in reasons(found).items()
        ),
        *(f"- {escaped(note)}" for note in found.notes),
        escaped(CAPTION) if found.tests else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def append_summary(path: Path, text: str) -> None:
    """Add ``text`` to the end of the file that a CI service shows; it is made where it is not there.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _where(defense: str, seed: int) -> str:
    return f"seed {seed}" if defense == "none" else f"behind {defense}, seed {seed}"
