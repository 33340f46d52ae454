"""API keys and what each of them used, in one SQLite file.

A key is ``dsm-<id>-<secret>`` with 256 random bits as its secret. At rest there is a salted BLAKE2b digest of it. A slow
hash such as scrypt is for passwords, which people choose and others guess; 2^256 equally likely secrets cannot be guessed at any
speed, while tens of milliseconds of hashing before a stranger is turned away would hand that stranger a lever. The id
finds the row, the digest is compared in constant time, and an unknown id costs the same comparison.

Usage is counted before a record is answered, by one conditional update: neither threads, processes nor restarts
overshoot a quota. Several processes may use the file; a revoked key is refused from the next request on.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dosimeter.core.database import open_database, transaction
from dosimeter.core.errors import InputError, WriteError

Role = Literal["ask", "metrics"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, salt BLOB NOT NULL, digest BLOB NOT NULL,
    quota INTEGER, requests_per_minute INTEGER, made_at REAL NOT NULL, revoked_at REAL,
    used INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0));
CREATE UNIQUE INDEX IF NOT EXISTS one_valid_key_a_name ON keys (name) WHERE revoked_at IS NULL;
"""
_COLUMNS = "id, name, role, salt, digest, quota, requests_per_minute, made_at, revoked_at, used"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_KEY = re.compile(r"dsm-([0-9a-f]{12})-[A-Za-z0-9_-]{43}")
_RESERVE = "UPDATE keys SET used = used + ?1 WHERE id = ?2 AND used + ?1 <= ?3 RETURNING used"
_NO_LIMIT = 2**62


@dataclass(frozen=True)
class Key:
    """A key as the file knows it; never the key itself.

    Attributes:
        role: ``ask`` for clients, ``metrics`` for whoever reads the metrics and nothing else.
        quota: records in all; ``None`` leaves it to the service.
        requests_per_minute: ``None`` leaves it to the service.
        made_at: seconds since 1970; ``revoked_at`` likewise, ``None`` for a key that is valid.
        used: records counted so far.
    """

    id: str
    name: str
    role: Role
    quota: int | None
    requests_per_minute: int | None
    made_at: float
    revoked_at: float | None
    used: int


class KeyStore:
    """The keys in the file ``path``, which is made for its owner alone if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise InputError(
                f"cannot use the key file {path}: {error.strerror or error}. Name another one under server.keys."
            ) from error
        self._database = open_database(path, _SCHEMA)
        self._known: dict[str, tuple[Key, bytes, bytes]] = {}
        self._version = -1

    def new(
        self,
        name: str,
        *,
        role: Role = "ask",
        quota: int | None = None,
        requests_per_minute: int | None = None,
    ) -> str:
        """Make a key called ``name`` and give it back, the only time that anybody sees it.

        Raises:
            InputError: a name that cannot be used, or that a valid key has.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"a key cannot be called {name[:80]!r}: give 1 to 64 letters, digits and . _ @ -, the first a letter "
                "or a digit."
            )
        for what, value in (("quota", quota), ("requests per minute", requests_per_minute)):
            if value is not None and value < 1:
                raise InputError(f"the {what} of a key must be at least 1, but {value} was given.")
        if any(key.name == name and key.revoked_at is None for key in self.list()):
            raise InputError(
                f"there is a key called '{name}' already. Revoke it first, with --revoke {name}, or choose another name."
            )
        identity, salt = secrets.token_hex(6), secrets.token_bytes(hashlib.blake2b.SALT_SIZE)
        key = f"dsm-{identity}-{secrets.token_urlsafe(32)}"
        with transaction(self._database):
            self._database.execute(
                f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, 0)",
                (identity, name, role, salt, _digest(key, salt), quota, requests_per_minute, time.time()),
            )
        self._version = -1
        return key

    def revoke(self, name: str) -> Key:
        """Refuse the key called ``name`` from now on; what it used stays counted.

        Raises:
            InputError: no valid key is called that.
        """
        with transaction(self._database):
            rows = self._database.execute(
                f"UPDATE keys SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL RETURNING {_COLUMNS}",
                (time.time(), name),
            ).fetchall()
        self._version = -1
        if not rows:
            valid = [key.name for key in self.list() if key.revoked_at is None]
            raise InputError(
                f"no valid key is called {name[:80]!r}; there {'are ' + ', '.join(valid) if valid else 'is none'}."
            )
        return _key_of(rows[0])

    def list(self) -> list[Key]:
        """Every key, also those revoked, the oldest first."""
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY made_at, id")
        return [_key_of(row) for row in rows]

    def find(self, given: str) -> Key | None:
        """The key that ``given`` is, revoked or not; ``None`` if it is none. Its ``used`` may be out of date."""
        match = _KEY.fullmatch(given)
        self._refresh()
        key, salt, digest = self._known.get(match[1] if match else "", _NOBODY)
        right = hmac.compare_digest(_digest(given, salt), digest)
        return key if right and match else None

    def _refresh(self) -> None:
        """Read the keys again if another process changed the file."""
        [version] = self._database.execute("PRAGMA data_version").fetchone()
        if version != self._version or not self._known:
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM keys").fetchall()
            self._known = {row[0]: (_key_of(row), row[3], row[4]) for row in rows}
            self._version = version

    def reserve(self, key: Key, records: int, default_quota: int | None) -> int | None:
        """Count ``records`` for ``key`` if its quota allows them.

        Returns:
            Records left after them; ``None`` if they do not fit, and nothing was counted; -1 without a quota.

        Raises:
            WriteError: the file cannot be written; nothing was counted.
        """
        quota = key.quota if key.quota is not None else default_quota
        most = _NO_LIMIT if quota is None else quota
        try:
            # A statement of its own is a transaction, and with every row fetched it has ended.
            rows = self._database.execute(_RESERVE, (records, key.id, most)).fetchall()
        except sqlite3.OperationalError as error:
            raise WriteError(
                f"cannot count what is asked in {self.path}: {error}. Make room there."
            ) from error
        if not rows:
            return None
        return -1 if quota is None else quota - int(rows[0][0])

    def give_back(self, key: Key, records: int) -> None:
        """Take back what :meth:`reserve` counted for records that were not answered."""
        with transaction(self._database):
            self._database.execute("UPDATE keys SET used = used - ? WHERE id = ?", (records, key.id))

    def used(self, key: Key) -> int:
        """Records counted for ``key`` so far."""
        return int(self._database.execute("SELECT used FROM keys WHERE id = ?", (key.id,)).fetchone()[0])

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._database.close()


def _digest(key: str, salt: bytes) -> bytes:
    return hashlib.blake2b(
        key.encode("utf-8", "replace"), digest_size=32, salt=salt, person=b"dosimeter key"
    ).digest()


def _key_of(row: tuple) -> Key:
    identity, name, role, _, _, quota, requests_per_minute, made_at, revoked_at, used = row
    return Key(identity, name, role, quota, requests_per_minute, made_at, revoked_at, used)


_NOBODY: tuple[Key, bytes, bytes] = (
    Key("", "", "ask", None, None, 0.0, 0.0, 0),
    bytes(hashlib.blake2b.SALT_SIZE),
    bytes(32),
)
