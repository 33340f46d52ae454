"""Files that are either whole or absent.

Everything is written to a temporary neighbour, flushed to disk and renamed over the old file. Accepted failure: after
a power cut the rename itself may be lost (the old file stays); a torn file is never seen.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dosimeter.core.errors import InputError, WriteError


def ensure_writable_folder(folder: Path, *, flag: str | None = "--out") -> Path:
    """Create ``folder`` (and parents) and check that a file can be made there.

    Args:
        flag: option of the command line that names another folder; ``None`` if there is none.

    Raises:
        InputError: it cannot be made, or not be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror or error
        hint = f", for example with {flag}" if flag else ""
        raise InputError(f"cannot write into {folder}: {reason}. Choose another folder{hint}.") from error
    return folder


_PARTIAL = ".partial"


def remove_partials(folder: Path, *, older_than_seconds: float = 0.0) -> None:
    """Delete what killed writers left unfinished anywhere under ``folder``.

    Nobody else may be writing there, unless ``older_than_seconds`` is longer than any writing takes.
    """
    latest = time.time() - older_than_seconds
    for path in folder.rglob(f".*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime <= latest:
                path.unlink()


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Call ``write`` with a binary file that becomes ``path`` only after ``write`` returned.

    Raises:
        WriteError: the disk is full, or ``path`` cannot be written; what was there before stays.
    """
    # Not tempfile.mkstemp, which makes files that only their owner can read, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise WriteError(
                f"cannot write {path}: {error.strerror or error}. Make room there or choose another folder, then "
                "start again."
            ) from error
        raise
    return path


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically."""
    return write_atomic(path, lambda file: file.write(text.encode()))
