"""The report as one HTML page that stands alone: no scripts, nothing loaded, everything escaped."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dosimeter.core.progress import Track, track
from dosimeter.core.result import Figure
from dosimeter.core.taxonomies import Tag, Taxonomy
from dosimeter.report import wording
from dosimeter.report.cards import tags_of_cell, tags_of_outcome
from dosimeter.report.comparison import Comparison, compare_defenses
from dosimeter.report.figures import Drawing, draw
from dosimeter.report.summary import summarise
from dosimeter.report.svg import DrawingRefused
from dosimeter.report.tables import ShownTable, shown_table
from dosimeter.report.tradeoff import Tradeoff
from dosimeter.study.outcome import CellOutcome, PolicyFinding, StudyOutcome


@dataclass(frozen=True)
class _DrawnFigure:
    figure: Figure
    drawing: Drawing | None
    refused: str | None


@dataclass(frozen=True)
class _Cell:
    number: int
    done: CellOutcome
    figures: list[_DrawnFigure]
    tables: list[ShownTable]
    tags: dict[Taxonomy, list[Tag]]


@dataclass(frozen=True)
class _Finding:
    finding: PolicyFinding
    cell_number: int | None


@dataclass(frozen=True)
class _Tradeoff:
    tradeoff: Tradeoff
    figure: _DrawnFigure


@dataclass(frozen=True)
class _Comparison:
    comparison: Comparison
    figure: _DrawnFigure | None
    tradeoffs: list[_Tradeoff]


def render_html(outcome: StudyOutcome) -> str:
    """The text of ``report.html``: the same text for the same outcome.

    A figure that cannot be drawn, or that would load something, is replaced by a sentence that says why. Tables of
    more than 200 rows show their first and last hundred.
    """
    comparisons = compare_defenses(outcome)
    figures = sum(len(done.result.figures) for done in outcome.cells)
    figures += sum((found.figure is not None) + len(found.tradeoffs) for found in comparisons)
    with track("drawing figures", figures) as bar:
        drawn_comparisons = [_comparison(number, found, bar) for number, found in enumerate(comparisons, 1)]
        cells = [_cell(number, done, bar) for number, done in enumerate(outcome.cells, 1)]
    numbers = {done.cell: number for number, done in reversed(list(enumerate(outcome.cells, 1)))}
    style, style_hash = _style()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            outcome=outcome,
            summary=summarise(outcome),
            findings=[_Finding(finding, numbers.get(finding.cell)) for finding in outcome.findings],
            comparisons=drawn_comparisons,
            cells=cells,
            taxonomies=list(tags_of_outcome(outcome)),
            versions=_merged([done.result.provenance.versions for done in outcome.cells]),
            digests=_merged([done.result.provenance.data_digests for done in outcome.cells]),
            style=style,
            style_hash=style_hash,
        )
    )


def _comparison(number: int, found: Comparison, bar: Track) -> _Comparison:
    return _Comparison(
        found,
        _drawn(found.figure, f"c{number}", bar) if found.figure else None,
        [
            _Tradeoff(tradeoff, _drawn(tradeoff.figure, f"c{number}-t{position}", bar))
            for position, tradeoff in enumerate(found.tradeoffs, 1)
        ],
    )


def _cell(number: int, done: CellOutcome, bar: Track) -> _Cell:
    figures = [
        _drawn(figure, f"f{number}-{position}", bar) for position, figure in enumerate(done.result.figures, 1)
    ]
    tables = [shown_table(table) for table in done.result.tables]
    return _Cell(number, done, figures, tables, tags_of_cell(done.cell))


def _drawn(figure: Figure, identifiers: str, bar: Track) -> _DrawnFigure:
    try:
        drawn = _DrawnFigure(figure, draw(figure, identifiers=identifiers), None)
    except DrawingRefused as refusal:
        drawn = _DrawnFigure(figure, None, str(refusal))
    bar.advance()
    return drawn


def _merged(records: list[dict[str, str]]) -> dict[str, list[str]]:
    """Each name with its values over all ``records``, without repetition."""
    merged: dict[str, list[str]] = {}
    for record in records:
        for name, value in record.items():
            if value not in merged.setdefault(name, []):
                merged[name].append(value)
    return merged


@cache
def _style() -> tuple[Markup, str]:
    """The style sheet, and its hash for the content-security policy, which allows no other."""
    text = files("dosimeter.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dosimeter.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "number": wording.number_text,
        "cell": wording.cell_text,
        "seconds": wording.seconds_text,
        "bytes": wording.bytes_text,
        "date": wording.date_text,
        "counted": wording.counted,
    }
    environment.globals |= {
        "verdict_words": wording.VERDICT_WORDS,
        "verdict_signs": wording.VERDICT_SIGNS,
        "dash": wording.NONE,
        "relation_signs": wording.RELATION_SIGNS,
    }
    return environment


def _finalize(value: Any) -> Any:
    """Text that a page can hold; markup was made from such text already."""
    return wording.clean_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
