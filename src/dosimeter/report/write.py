"""Puts the reports of a study into a folder, in every format."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from dosimeter.core.errors import DosimeterError, WriteError
from dosimeter.core.files import ensure_writable_folder, write_text
from dosimeter.report.bom import render_bom
from dosimeter.report.html import render_html
from dosimeter.report.json import render_json
from dosimeter.report.junit import render_junit
from dosimeter.report.model_card import render_model_card
from dosimeter.report.sarif import render_sarif
from dosimeter.study.outcome import StudyOutcome

#: What is written of every study: file, and what makes its text.
FORMATS: dict[str, Callable[[StudyOutcome], str]] = {
    "report.html": render_html,
    "report.json": render_json,
    "report.sarif": render_sarif,
    "report.junit.xml": render_junit,
    "model-card.md": render_model_card,
    "bom.cdx.json": render_bom,
}

logger = logging.getLogger(__name__)


def write_reports(outcome: StudyOutcome, folder: Path) -> list[Path]:
    """Write every format into ``folder`` and return the paths; each file is whole or absent.

    One that cannot be made or written does not keep the others from being written. A file that an earlier run left under
    the name of one that cannot be made is removed, as it would speak of another run.

    Raises:
        InputError: ``folder`` cannot be written, or the outcome does not fit into JSON.
        WriteError: files could not be written; the message names them all.
        Exception: a format could not be made for another reason; the other files are there.
    """
    ensure_writable_folder(folder)
    written: list[Path] = []
    failures: dict[str, Exception] = {}
    for name, render in FORMATS.items():
        try:
            text = render(outcome)
        except Exception as error:
            failures[name] = error
            (folder / name).unlink(missing_ok=True)
            continue
        try:
            written.append(write_text(folder / name, text))
        except (WriteError, ValueError) as error:
            failures[name] = error
    if failures:
        _raise(failures, written)
    return written


def _raise(failures: dict[str, Exception], written: list[Path]) -> None:
    """The first failure of the worst kind, after the other ones and what was written were said."""
    first = next(
        (error for error in failures.values() if not isinstance(error, DosimeterError)),
        next(iter(failures.values())),
    )
    rest = {name: error for name, error in failures.items() if error is not first}
    for name, error in rest.items():
        logger.error("%s was not written: %s", name, error)
    logger.error(
        "%s not written; written were %s",
        " and ".join(failures),
        ", ".join(path.name for path in written) or "no reports",
    )
    raise first
