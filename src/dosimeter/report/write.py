"""Puts the reports of a study into a folder."""

from __future__ import annotations

from pathlib import Path

from dosimeter.core.files import ensure_writable_folder, write_text
from dosimeter.report.html import render_html
from dosimeter.report.json import render_json
from dosimeter.study.outcome import StudyOutcome


def write_reports(outcome: StudyOutcome, folder: Path) -> list[Path]:
    """Write ``report.html`` and ``report.json`` into ``folder`` and return their paths; each is whole or absent.

    Raises:
        InputError: ``folder`` cannot be written, or the outcome does not fit into JSON.
    """
    ensure_writable_folder(folder)
    texts = {"report.html": render_html(outcome), "report.json": render_json(outcome)}
    return [write_text(folder / name, text) for name, text in texts.items()]
