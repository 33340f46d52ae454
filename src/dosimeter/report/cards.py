"""Cards of the methods that an outcome names, as far as the catalogue has them without loading anybody's code."""

from __future__ import annotations

from functools import cache
from typing import Any

from dosimeter.core.registry import catalogue
from dosimeter.core.taxonomies import Tag, Taxonomy, by_taxonomy
from dosimeter.study.outcome import Cell, StudyOutcome


@cache
def cards() -> dict[str, dict[str, Any]]:
    """Cards by name; a method of another package has none here."""
    return {entry.name: entry.card for entry in catalogue() if entry.card}


def slug_of(label: str) -> str:
    """The slug of a method from its label in a cell: ``jpeg-inputs`` of ``jpeg-inputs(quality=30)``."""
    return label.partition("(")[0]


def tags_of(names: list[str]) -> dict[Taxonomy, list[Tag]]:
    """The standard tags of the methods called ``names`` (slugs or labels), under their taxonomies."""
    known = cards()
    return by_taxonomy(tag for name in names for tag in known.get(slug_of(name), {}).get("tags", ()))


def tags_of_cell(cell: Cell) -> dict[Taxonomy, list[Tag]]:
    """The standard tags of a cell's attack and defence."""
    return tags_of([cell.attack, cell.defense])


def tags_of_outcome(outcome: StudyOutcome) -> dict[Taxonomy, list[Tag]]:
    """The standard tags of everything that was run."""
    names = [name for done in outcome.cells for name in (done.cell.attack, done.cell.defense)]
    return tags_of(list(dict.fromkeys(names)))
