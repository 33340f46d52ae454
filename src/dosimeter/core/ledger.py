"""What was asked, and what may still be asked.

Append-only SQLite table: a *reserve* entry is written before records leave, a *settle* entry once their answers are
stored. The cap counts reservations, so it is never overshot, not even by a process that was killed between the two;
such calls stay counted as lost. Several processes may share one file.
"""

from __future__ import annotations

import operator
import time
from pathlib import Path
from typing import Protocol

from dosimeter.core.database import open_database, transaction
from dosimeter.core.errors import BudgetExceeded

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, target TEXT NOT NULL, scope TEXT NOT NULL,
    event TEXT NOT NULL CHECK (event IN ('reserve', 'settle')), queries INTEGER NOT NULL CHECK (queries >= 0), price REAL NOT NULL);
CREATE TRIGGER IF NOT EXISTS entries_are_final BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TABLE IF NOT EXISTS totals (event TEXT PRIMARY KEY, queries INTEGER NOT NULL, price REAL NOT NULL);
INSERT OR IGNORE INTO totals VALUES ('reserve', 0, 0), ('settle', 0, 0);
"""


class QueryBill(Protocol):
    """What an oracle needs of a bill; :class:`Ledger`, or one that stands for it on another machine."""

    @property
    def max_queries(self) -> int | None:
        """Cap on reserved queries; ``None`` means no cap."""

    @property
    def remaining(self) -> int | None:
        """Queries that may still be reserved; ``None`` without a cap."""

    def require(self, queries: int) -> None:
        """Raise :class:`BudgetExceeded` unless ``queries`` more fit under the cap."""

    def reserve(self, queries: int, *, target: str, scope: str = "", price_per_call: float = 0.0) -> None:
        """Count ``queries`` as spent, or raise :class:`BudgetExceeded` and count nothing."""

    def settle(self, queries: int, *, target: str, scope: str = "", price_per_call: float = 0.0) -> None:
        """Note that the answers to ``queries`` reserved queries are stored."""


class Ledger:
    """Query bill with a hard cap.

    Args:
        path: SQLite file, shared between processes; ``None`` keeps it in memory.
        max_queries: cap on reserved queries over the life of the file; ``None`` means no cap.
    """

    def __init__(self, path: Path | None = None, *, max_queries: int | None = None) -> None:
        self.max_queries = max_queries
        self._database = open_database(path, _SCHEMA)

    def _total(self, event: str, column: str = "queries") -> float:
        return float(
            self._database.execute(f"SELECT {column} FROM totals WHERE event = ?", (event,)).fetchone()[0]
        )

    @property
    def used(self) -> int:
        """Queries reserved so far, answered or not."""
        return int(self._total("reserve"))

    @property
    def answered(self) -> int:
        """Queries whose answers were stored."""
        return int(self._total("settle"))

    @property
    def lost(self) -> int:
        """Queries that left but whose answers never arrived (failures, kills)."""
        row = self._database.execute(
            "SELECT SUM(CASE event WHEN 'reserve' THEN queries ELSE -queries END) FROM totals"
        ).fetchone()
        return int(row[0])

    @property
    def money(self) -> float:
        """Price of everything reserved."""
        return self._total("reserve", "price")

    @property
    def remaining(self) -> int | None:
        """Queries that may still be reserved; ``None`` without a cap."""
        return None if self.max_queries is None else max(0, self.max_queries - self.used)

    def require(self, queries: int) -> None:
        """Raise :class:`BudgetExceeded` unless ``queries`` more fit under the cap."""
        if self.max_queries is not None and self.used + queries > self.max_queries:
            raise BudgetExceeded("queries", used=self.used, limit=self.max_queries, wanted=queries)

    def reserve(self, queries: int, *, target: str, scope: str = "", price_per_call: float = 0.0) -> None:
        """Count ``queries`` as spent, or raise :class:`BudgetExceeded` and count nothing."""
        with transaction(self._database):
            self.require(queries)
            self._append("reserve", queries, target, scope, price_per_call)

    def settle(self, queries: int, *, target: str, scope: str = "", price_per_call: float = 0.0) -> None:
        """Note that the answers to ``queries`` reserved queries are stored."""
        with transaction(self._database):
            self._append("settle", queries, target, scope, price_per_call)

    def _append(self, event: str, queries: int, target: str, scope: str, price_per_call: float) -> None:
        queries = operator.index(
            queries
        )  # SQLite would store a NumPy integer as bytes, and count it as nothing
        price = float(queries * price_per_call)
        self._database.execute(
            "INSERT INTO entries (at, target, scope, event, queries, price) VALUES (?, ?, ?, ?, ?, ?)",
            (time.time(), target, scope, event, queries, price),
        )
        self._database.execute(
            "UPDATE totals SET queries = queries + ?, price = price + ? WHERE event = ?",
            (queries, price, event),
        )

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._database.close()
