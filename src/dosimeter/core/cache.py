"""Answers by content: what a target said once is never asked again.

The key is the target's fingerprint, the content hash of the record and the number of the repetition; the value is
one answer, packed without pickle. Safe to share between processes and against ``kill -9``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout

from dosimeter.core.database import open_database, transaction
from dosimeter.core.limits import check_time

_SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
_MOST_KEYS_A_QUERY = 500
_LOCK_CHECK_SECONDS = 1.0


class AnswerKeeper(Protocol):
    """Where an oracle finds and leaves answers; :class:`AnswerCache`, or one that stands for it on another machine."""

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The stored answers among ``keys``."""

    def put(self, keys: Sequence[str], answers: Sequence[Any] | np.ndarray) -> None:
        """Store ``answers`` under ``keys``; a key that is there keeps its first answer."""

    def alone(self) -> AbstractContextManager[None]:
        """Only one of all who share these answers asks at a time, so that two never pay for the same record."""


def pack(answer: Any) -> bytes:
    """One answer (string, or array of any shape) as bytes: a JSON line with type and shape, then the raw data.

    Raises:
        TypeError: an array of Python objects, which has no bytes of its own.
    """
    if isinstance(answer, str):
        return b'"text"\n' + answer.encode("utf-8", "surrogatepass")
    array = np.asarray(answer)
    if array.dtype.hasobject:
        raise TypeError(f"an answer must be a string or a numeric array, not {type(answer).__name__}")
    return json.dumps([array.dtype.str, list(array.shape)]).encode() + b"\n" + array.tobytes()


def unpack(data: bytes) -> Any:
    """The inverse of :func:`pack`; arrays are read-only."""
    header, _, body = data.partition(b"\n")
    kind = json.loads(header)
    if kind == "text":
        return body.decode("utf-8", "surrogatepass")
    return np.frombuffer(body, dtype=np.dtype(kind[0])).reshape(kind[1])


class AnswerCache:
    """Answers in a SQLite file, or in memory without ``path``."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._database = open_database(path, _SCHEMA)

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The stored answers among ``keys``."""
        found: dict[str, Any] = {}
        for start in range(0, len(keys), _MOST_KEYS_A_QUERY):
            part = keys[start : start + _MOST_KEYS_A_QUERY]
            marks = ",".join("?" * len(part))
            rows = self._database.execute(f"SELECT key, value FROM answers WHERE key IN ({marks})", part)
            found.update((key, unpack(value)) for key, value in rows)
        return found

    def put(self, keys: Sequence[str], answers: Sequence[Any] | np.ndarray) -> None:
        """Store ``answers`` under ``keys`` in one transaction; a key that is there keeps its first answer."""
        rows = [(key, pack(answer)) for key, answer in zip(keys, answers, strict=True)]
        with transaction(self._database):
            self._database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one of all who share these answers asks at a time, so that two never pay for the same record.

        Raises:
            BudgetExceeded: the time limit passed while others were asking.
        """
        if self.path is None:
            yield
            return
        lock = FileLock(self.lock_file(self.path))
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_LOCK_CHECK_SECONDS)
            except Timeout:
                check_time()
        try:
            yield
        finally:
            lock.release()

    @staticmethod
    def lock_file(path: Path) -> Path:
        """The file that is locked by whoever asks for answers that go into ``path``."""
        return path.with_suffix(".lock")

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._database.close()
