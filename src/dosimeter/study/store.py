"""The store of runs: every finished cell at once, so that a run killed at any moment goes on where it was.

SQLite embedded, PostgreSQL by URL; several machines may share one database. Does not own: answers and bills
(``core.cache``, ``core.ledger``), which stay in the state folder; connections and locks (``study.database``).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from sqlalchemy import ForeignKey, Text, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dosimeter.core.errors import DosimeterError, InputError
from dosimeter.core.result import Result, Verdict
from dosimeter.study.database import AdvisoryLock, create_tables, open_engine, sentence, shown, sqlite_file
from dosimeter.study.home import InUse
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
        self._engine = open_engine(url)
        self._held: dict[str, AdvisoryLock] = {}
        try:
            create_tables(self._engine, _Base.metadata)
        except SQLAlchemyError as error:
            self.close()
            do = (
                "Make room there" if self._engine.dialect.name == "sqlite" else "Start or repair the database"
            )
            raise InputError(
                f"cannot open the store {self._shown}: {sentence(error, self._engine.url)}. {do}, or name another with "
                "--store."
            ) from error

    @property
    def _shown(self) -> str:
        return shown(self._engine.url)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._said(), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the database says is wrong, as an error of ours."""
        try:
            yield
        except SQLAlchemyError as error:
            raise StoreError(
                f"the store {self._shown} failed: {sentence(error, self._engine.url)}. Make it usable again, then start "
                "again: what was stored is kept."
            ) from error

    @contextmanager
    def alone(self, run: str) -> Iterator[None]:
        """Hold ``run`` against everybody who shares this store; a killed process lets go of it.

        A lock in the database on PostgreSQL, taken again should it be lost with its connection; a file beside the
        database on SQLite.

        Raises:
            InUse: another process holds it.
        """
        busy = InUse(
            f"another process is working on run {run} of the store {self._shown}. Wait for it to end."
        )
        if self._engine.dialect.name == "postgresql":
            lock = AdvisoryLock(self._engine, f"dosimeter run {run}")
            with self._said():
                if not lock.acquire():
                    raise busy
            self._held[run] = lock
            try:
                yield
            finally:
                del self._held[run]
                lock.release()
            return
        file = sqlite_file(self._engine.url)
        if file is None:
            yield
            return
        held = FileLock(file.with_name(f".{file.name}.{run}.lock"))
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise busy from None
        try:
            yield
        finally:
            with suppress(OSError):
                Path(held.lock_file).unlink()  # before letting go: afterwards it may be another process's
            held.release()

    def _still_alone(self, run: str) -> None:
        lock = self._held.get(run)
        if lock is None:
            return
        with self._said():
            if not lock.still_held():
                raise StoreError(
                    f"run {run} of the store {self._shown} was taken over by another process while the database was "
                    "away. Nothing is lost; wait for that process to end."
                )

    def create(
        self,
        *,
        name: str,
        spec_digest: str,
        spec_text: str,
        threads: int,
        out: Path | None,
        identifier: str | None = None,
    ) -> RunRecord:
        """A new run; without ``out`` its reports go to ``dosimeter-runs/<run>``. It is called ``identifier`` if given."""
        identifier = identifier or new_identifier()
        row = _Run(
            id=identifier,
            name=name,
            spec_digest=spec_digest,
            spec_text=spec_text,
            status="running",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
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
        self._still_alone(run)
        values = {"run": run, "key": key, "result": result.to_json()}
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        made = insert(_Cell).values(**values)
        made = made.on_conflict_do_update(index_elements=["run", "key"], set_={"result": values["result"]})
        with self._session() as session:
            session.execute(made)
            session.execute(update(_Run).where(_Run.id == run).values(seconds=seconds))

    def finish(self, run: str, outcome: StudyOutcome) -> None:
        """Store what ``run`` ended with."""
        values = {"status": "finished", "verdict": outcome.verdict, "outcome": outcome.model_dump_json()}
        with self._session() as session:
            session.execute(update(_Run).where(_Run.id == run).values(**values))

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._engine.dispose()


def new_identifier() -> str:
    """A name for a run that no other has, on whatever machine: the time, in UTC, and chance."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


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
