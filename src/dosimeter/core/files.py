"""Files that are either whole or absent.

Everything is written to a temporary neighbour, flushed to disk and renamed over the old file. Accepted failure: after
a power cut the rename itself may be lost (the old file stays); a torn file is never seen.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dosimeter.core.errors import InputError


def ensure_writable_folder(folder: Path) -> Path:
    """Create ``folder`` (and parents) and check that a file can be made there, else ``InputError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"cannot write into {folder}: {reason}. Choose another folder, for example with --out."
        ) from error
    return folder


_PARTIAL = ".partial"


def remove_partials(folder: Path) -> None:
    """Delete what killed writers left unfinished anywhere under ``folder``. Nobody else may be writing there."""
    for path in folder.rglob(f".*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Call ``write`` with a binary file that becomes ``path`` only after ``write`` returned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically."""
    return write_atomic(path, lambda file: file.write(text.encode()))
