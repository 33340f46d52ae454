"""The database behind the store: its URL, its connections, its tables, and locks that all machines see.

Does not own: what is kept there (``study.store``), SQLite files that are not the store's (``core.database``).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from dosimeter.core.database import use_write_ahead_log
from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.core.files import ensure_writable_folder

_EXAMPLES = "sqlite:///runs.sqlite or postgresql+psycopg://user@host/database"
_CONNECT_SECONDS = 10
_TABLES_LOCK = "dosimeter tables"


def open_engine(url: str) -> Engine:
    """An engine for ``url``; connects to nothing yet. Makes the folder of a SQLite file.

    ``postgresql://`` and ``postgres://`` mean psycopg. Connections are checked before each use, so a server that was
    started again in between costs nothing; options of the URL such as ``sslmode`` reach the driver as they stand.

    Raises:
        InputError: the URL is wrong, or its driver is not installed.
        MissingExtra: psycopg is not installed.
    """
    parsed = _parsed(url)
    backend = parsed.get_backend_name()
    options: dict[str, Any] = {}
    if backend == "sqlite":
        if (file := sqlite_file(parsed)) is not None:
            ensure_writable_folder(file.parent, flag="--store")
    else:
        options = {"pool_pre_ping": True, "pool_size": 2, "hide_parameters": True}
        if backend == "postgresql" and "connect_timeout" not in parsed.query:
            options["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    try:
        engine = create_engine(parsed, **options)
    except ModuleNotFoundError as error:
        if error.name == "psycopg":
            raise MissingExtra("a PostgreSQL store", "postgres") from error
        raise InputError(
            f"the store {shown(parsed)} needs the Python package '{error.name}', which is not installed. "
            f"Install it, or give a URL such as {_EXAMPLES}."
        ) from None
    except (ArgumentError, ImportError) as error:
        raise InputError(
            f"cannot use the store {shown(parsed)}: {sentence(error, parsed)}. Give a URL such as {_EXAMPLES}."
        ) from None
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # What exactly is wrong is not said, because what cannot be parsed may hold a password in any place.
        raise InputError(
            f"the store given is not a database URL. Give a URL such as {_EXAMPLES}; characters of a user or password "
            "that have a meaning in URLs are written as %40 for @, %2F for / and %3A for :."
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database; ``None`` for one in memory and for other databases."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def shown(url: URL) -> str:
    """``url`` for people: without a password, wherever it stands in it."""
    hidden = {key: "***" if _secret(key) else value for key, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True)


def _secret(key: str) -> bool:
    return "password" in key.lower()


def sentence(error: Exception, url: URL) -> str:
    """What the database said, in one line and without the passwords of ``url``."""
    said = str(getattr(error, "orig", None) or error).partition("\n")[0].strip().rstrip(".")
    secrets = [url.password, *(value for key, value in url.query.items() if _secret(key))]
    for secret in secrets:
        if isinstance(secret, str) and secret:
            said = said.replace(secret, "***")
    return said


def create_tables(engine: Engine, metadata: MetaData) -> None:
    """Make what is missing of ``metadata``, whoever else does so at the same time."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # IF NOT EXISTS fails there where two create at once, and asks for rights that readers may not have.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(_TABLES_LOCK)})
            there = set(inspect(connection).get_table_names())
            metadata.create_all(
                connection,
                [table for table in metadata.sorted_tables if table.name not in there],
                checkfirst=False,
            )
            return
        # SQLite looks and creates in one step; metadata.create_all looks first, and others come between.
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def lock_key(name: str) -> int:
    """The signed 64-bit number that PostgreSQL knows the lock called ``name`` by."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


class AdvisoryLock:
    """A lock in a PostgreSQL database that all its clients see; it ends with the connection, however that ends.

    The connection is in no transaction, so that a server that ends idle transactions leaves it alone.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._key = engine, lock_key(name)
        self._connection: Connection | None = None

    def acquire(self) -> bool:
        """Hold the lock, without waiting; ``False`` if somebody else does. Once held, see :meth:`still_held`.

        Raises:
            SQLAlchemyError: the database cannot be asked.
        """
        connection = self._engine.connect()
        try:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            got = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}))
        except BaseException:
            _drop(connection)
            raise
        if got:
            self._connection = connection
        else:
            connection.close()
        return got

    def still_held(self) -> bool:
        """Whether the lock is held; one that went with its connection (a server started again) is taken again.

        Raises:
            SQLAlchemyError: the database cannot be asked.
        """
        if self._connection is not None:
            try:
                self._connection.scalar(text("SELECT 1"))
                return True
            except SQLAlchemyError:
                _drop(self._connection)
                self._connection = None
        return self.acquire()

    def release(self) -> None:
        """Let go; the connection is closed, and with it the lock, even if the database is gone."""
        if self._connection is not None:
            _drop(self._connection)
            self._connection = None


def _drop(connection: Connection) -> None:
    """Close the connection itself rather than give it back to be used again."""
    with suppress(SQLAlchemyError):
        connection.invalidate()
    with suppress(SQLAlchemyError):
        connection.close()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA busy_timeout=60000")
    use_write_ahead_log(connection)
