"""The part of a table that a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dosimeter.core.result import Table
from dosimeter.report.wording import is_number

MOST_ROWS = 200
MOST_COLUMNS = 40


@dataclass(frozen=True)
class ShownTable:
    """First and last rows of a table, and what was left out between them and at the right."""

    title: str
    caption: str
    columns: list[str]
    numeric: list[bool]
    head: list[list[Any]]
    tail: list[list[Any]]
    rows: int
    rows_left_out: int
    columns_left_out: int


def shown_table(table: Table) -> ShownTable:
    """All of a table up to 200 rows and 40 columns; of a longer one the first and the last 100 rows."""
    long = len(table.rows) > MOST_ROWS
    head = table.rows[: MOST_ROWS // 2] if long else table.rows
    tail = table.rows[-(MOST_ROWS // 2) :] if long else []
    columns = table.columns[:MOST_COLUMNS]
    return ShownTable(
        title=table.title,
        caption=table.caption,
        columns=columns,
        numeric=[_is_numeric([row[index] for row in [*head, *tail]]) for index in range(len(columns))],
        head=[row[:MOST_COLUMNS] for row in head],
        tail=[row[:MOST_COLUMNS] for row in tail],
        rows=len(table.rows),
        rows_left_out=len(table.rows) - len(head) - len(tail),
        columns_left_out=len(table.columns) - len(columns),
    )


def _is_numeric(values: list[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(is_number(value) for value in known)
