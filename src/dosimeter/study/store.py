"""The store of runs: every finished cell at once, so that a run killed at any moment goes on where it was.

SQLite embedded, any other database by URL. Does not own: answers and bills (``core.cache``, ``core.ledger``).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, ForeignKey, Text, create_engine, event, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateIndex, CreateTable

from dosimeter.core.database import use_write_ahead_log
from dosimeter.core.errors import DosimeterError, InputError, MissingExtra
from dosimeter.core.files import ensure_writable_folder
from dosimeter.core.result import Result, Verdict
from dosimeter.study.outcome import StudyOutcome

Status = Literal["running", "finished"]


class StoreError(DosimeterError):
    """The store could not be read or written."""


class _Base(DeclarativeBase):
    pass


class _Run(_Base):
    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    spec_digest: Mapped[str] = mapped_column(index=True)
    spec_text: Mapped[str] = mapped_column(Text, deferred=True)
    status: Mapped[str]
    started: Mapped[str]
    seconds: Mapped[float]
    threads: Mapped[int]
    out: Mapped[str]
    verdict: Mapped[str | None]
    outcome: Mapped[str | None] = mapped_column(Text, deferred=True)


class _Cell(_Base):
    __tablename__ = "cells"

    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    result: Mapped[str] = mapped_column(Text)


@dataclass(frozen=True)
class RunRecord:
    """A run as the store knows it.

    Attributes:
        started: ISO 8601, UTC.
        seconds: time worked on it up to the last finished cell, over all sittings.
        threads: that its cells compute with; kept over sittings so that figures do not change.
        out: folder of its reports.
        verdict: of a finished run.
    """

    id: str
    name: str
    spec_digest: str
    status: Status
    started: str
    seconds: float
    threads: int
    out: Path
    verdict: Verdict | None


class Store:
    """Runs and their cells in the database at ``url``.

    Raises:
        InputError: the URL is wrong, or the database cannot be opened.
        StoreError: (from the methods) it can no longer be read or written.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
                ensure_writable_folder(Path(str(parsed.database)).parent, flag="--store")
            self._engine = create_engine(parsed)
        except ModuleNotFoundError as error:
            if error.name != "psycopg":
                raise
            raise MissingExtra("a PostgreSQL store", "postgres") from error
        except (ArgumentError, ImportError) as error:
            raise InputError(
                f"cannot use the store given: {error}. Give a URL such as sqlite:///runs.sqlite or "
                "postgresql+psycopg://user@host/database."
            ) from None
        if parsed.get_backend_name() == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
        try:
            _create_tables(self._engine)
        except SQLAlchemyError as error:
            raise InputError(
                f"cannot open the store {self._shown}: {_sentence(error)}. Make room there, or name another with --store."
            ) from error

    @property
    def _shown(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with Session(self._engine) as session, session.begin():
                yield session
        except SQLAlchemyError as error:
            raise StoreError(
                f"the store {self._shown} failed: {_sentence(error)}. Make it usable again, then start again: what was "
                "stored is kept."
            ) from error

    def create(
        self, *, name: str, spec_digest: str, spec_text: str, threads: int, out: Path | None
    ) -> RunRecord:
        """A new run; without ``out`` its reports go to ``dosimeter-runs/<run>``."""
        now = datetime.now(UTC)
        identifier = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        row = _Run(
            id=identifier,
            name=name,
            spec_digest=spec_digest,
            spec_text=spec_text,
            status="running",
            started=now.isoformat(timespec="seconds"),
            seconds=0.0,
            threads=threads,
            out=str((out or Path("dosimeter-runs") / identifier).absolute()),
        )
        with self._session() as session:
            session.add(row)
            session.flush()
            return _record(row)

    def unfinished(self, spec_digest: str, out: Path | None) -> list[RunRecord]:
        """Unfinished runs of a spec, newest first; only those that report into ``out`` if it is given."""
        query = select(_Run).where(_Run.spec_digest == spec_digest, _Run.status == "running")
        if out is not None:
            query = query.where(_Run.out == str(out.absolute()))
        with self._session() as session:
            return [_record(row) for row in session.scalars(query.order_by(_Run.started.desc(), _Run.id))]

    def runs(self) -> list[RunRecord]:
        """All runs, newest first."""
        with self._session() as session:
            return [
                _record(row) for row in session.scalars(select(_Run).order_by(_Run.started.desc(), _Run.id))
            ]

    def find(self, name: str) -> RunRecord:
        """The run whose identifier is or begins with ``name``; ``last`` is the newest.

        Raises:
            InputError: none, or several.
        """
        runs = self.runs()
        if not runs:
            raise InputError(
                f"there are no runs in the store {self._shown} yet; 'dosimeter audit' makes one."
            )
        found = runs[:1] if name == "last" else [run for run in runs if run.id.startswith(name)]
        exact = [run for run in found if run.id == name]
        if len(exact or found) == 1:
            return (exact or found)[0]
        said = "several runs begin" if found else "no run begins"
        raise InputError(f"{said} with '{name}' in the store {self._shown}. 'dosimeter runs' lists them.")

    def results(self, run: str) -> dict[str, Result]:
        """Finished cells of ``run`` by key."""
        with self._session() as session:
            rows = session.scalars(select(_Cell).where(_Cell.run == run))
            return {row.key: Result.from_json(row.result) for row in rows}

    def outcome(self, run: str) -> StudyOutcome:
        """What the finished run ``run`` ended with.

        Raises:
            InputError: it has not ended.
        """
        with self._session() as session:
            text = session.scalar(select(_Run.outcome).where(_Run.id == run))
        if text is None:
            raise InputError(f"run {run} has not ended; start the same audit again to resume it.")
        return StudyOutcome.model_validate_json(text)

    def save(self, run: str, key: str, result: Result, *, seconds: float) -> None:
        """Store a finished cell and the time worked so far, in one transaction."""
        with self._session() as session:
            session.merge(_Cell(run=run, key=key, result=result.to_json()))
            session.execute(update(_Run).where(_Run.id == run).values(seconds=seconds))

    def finish(self, run: str, outcome: StudyOutcome) -> None:
        """Store what ``run`` ended with."""
        values = {"status": "finished", "verdict": outcome.verdict, "outcome": outcome.model_dump_json()}
        with self._session() as session:
            session.execute(update(_Run).where(_Run.id == run).values(**values))

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._engine.dispose()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA busy_timeout=60000")
    use_write_ahead_log(connection)


def _create_tables(engine: Engine) -> None:
    """Leaves it to the database to look what is there; ``metadata.create_all`` looks first, and others come between."""
    with engine.begin() as connection:
        for table in _Base.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def _record(row: _Run) -> RunRecord:
    return RunRecord(
        id=row.id,
        name=row.name,
        spec_digest=row.spec_digest,
        status="finished" if row.status == "finished" else "running",
        started=row.started,
        seconds=row.seconds,
        threads=row.threads,
        out=Path(row.out),
        verdict=row.verdict,  # type: ignore[arg-type]
    )


def _sentence(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0].rstrip(".")
