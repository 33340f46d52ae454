"""SQLite files that several processes share and that survive ``kill -9``."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dosimeter.core.errors import InputError, WriteError

_WAIT_FOR_LOCK_SECONDS = 60
_RETRY_SECONDS = 0.01


def open_database(path: Path | None, schema: str) -> sqlite3.Connection:
    """An autocommit connection to ``path`` (in memory without it), after running ``schema``; it waits for locks.

    Raises:
        InputError: the file or its folder cannot be used.
    """
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path or ":memory:", isolation_level=None, timeout=_WAIT_FOR_LOCK_SECONDS, check_same_thread=False
        )
        use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(schema)
    except (OSError, sqlite3.DatabaseError) as error:
        raise InputError(
            f"cannot use the database {path}: {error}. Name a folder that can be written to; "
            "if the file is damaged, move it away and what it held is collected anew."
        ) from error
    return connection


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work on the file of ``connection`` side by side; waits while others set it up.

    Raises:
        sqlite3.DatabaseError: the file is no database, or stays locked for a minute.
    """
    # Changing the journal mode of a new file is the one statement that does not wait for other processes by itself.
    deadline = time.monotonic() + _WAIT_FOR_LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's changes or none; nobody else writes meanwhile.

    Raises:
        WriteError: the disk is full, or the file can no longer be written.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError):
            path = connection.execute("PRAGMA database_list").fetchone()[2] or "answers in memory"
            raise WriteError(
                f"cannot write {path}: {error}. Make room there or choose another folder, then start again."
            ) from error
        raise
