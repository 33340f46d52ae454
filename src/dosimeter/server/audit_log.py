"""Who asked how much and when, one JSON object a line, and nothing of what was asked.

A line has the time, the name of the key, the endpoint, the status, the number of records, the bytes in and out and the
seconds taken. It holds no content, no hash of content (anybody with a guess could confirm it) and no address of the
client. Lines are only ever appended, each with one write, before the response leaves: a response that is not in the
log was not sent. With a size given, a full file is put aside under the time of that moment, and never deleted.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic_core import to_json

from dosimeter.core.errors import InputError


class AuditLog:
    """The log in the file ``path``, made for its owner alone if it is not there.

    Args:
        most_bytes: size at which the file is put aside; ``None`` never.

    Raises:
        InputError: the file cannot be appended to.
    """

    def __init__(self, path: Path, *, most_bytes: int | None = None) -> None:
        self.path = path
        self._most_bytes = most_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise InputError(
                f"cannot append to the audit log {path}: {error.strerror or error}. Name another file under "
                "server.audit_log."
            ) from error

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def append(
        self,
        *,
        key: str | None,
        endpoint: str,
        status: int,
        records: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
    ) -> None:
        """Write one line.

        Raises:
            OSError: it cannot be written.
        """
        line = to_json(
            {
                "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
                "key": key,
                "endpoint": endpoint,
                "status": status,
                "records": records,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "seconds": round(seconds, 6),
            }
        )
        if self._most_bytes is not None and self._size and self._size + len(line) >= self._most_bytes:
            self._put_aside()
        self._size += os.write(self._file, line + b"\n")

    def _put_aside(self) -> None:
        self.flush()
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.path.rename(self.path.with_name(f"{self.path.name}.{moment}"))
        os.close(self._file)
        self._open()

    def flush(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Flush and close. May be called twice."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1
