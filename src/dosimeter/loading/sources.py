"""Opening a file that may be anything, and saying in one sentence why it cannot be used.

Every loader starts with :func:`open_regular`, asks :func:`check_fits` before it allocates, and wraps calls of
third-party decoders in :func:`refusing`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dosimeter.core.errors import DosimeterError, InputError

GIB = 1 << 30
MIB = 1 << 20

_MOST_CHARACTERS_SHOWN = 160


def shown(value: object) -> str:
    """``value`` as text that is safe in a one-line message: control characters escaped, the middle of long ones cut."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
    if len(text) <= _MOST_CHARACTERS_SHOWN:
        return text
    half = _MOST_CHARACTERS_SHOWN // 2 - 2
    return f"{text[:half]} ... {text[-half:]}"


def reason_of(error: Exception) -> str:
    """The first line of what ``error`` says, without advice for programmers, or else its class."""
    first = str(error).strip().partition("\n")[0].partition("; use sys.")[0]
    return shown(first.rstrip(". ") or type(error).__name__)


def size_text(nbytes: int) -> str:
    """``nbytes`` in the largest binary unit that keeps it above 1, for example ``1.5 GiB``."""
    size = float(min(nbytes, 1 << 90))
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"


def open_regular(path: Path, *, what: str, max_bytes: int | None = None) -> BinaryIO:
    """Open ``path`` for reading if it is a regular, non-empty file; never blocks on a pipe or a device.

    Args:
        what: what the file should be, with its article, for the message ("a NumPy array").
        max_bytes: largest size that is accepted.

    Raises:
        InputError: missing, unreadable, a folder, a pipe, a socket or a device, empty, or too large.
    """
    name = shown(path)
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise InputError(
            f"there is no file {name}. Check the path; relative ones start at {shown(Path.cwd())}."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot open {name}: {shown(reason)}. Give the path of {what} that you may read."
        ) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"expected {name} to be {what}, but it is a folder. Name the file inside it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(
                f"expected {name} to be {what}, but it is a pipe, socket or device. Copy the data into a file first."
            )
        if status.st_size == 0:
            raise InputError(f"expected {name} to be {what}, but it is empty. Make or download it again.")
        if max_bytes is not None and status.st_size > max_bytes:
            raise InputError(
                f"{name} is {size_text(status.st_size)}, more than the {size_text(max_bytes)} accepted for {what}. "
                "Split it, or keep only what is needed."
            )
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


@contextmanager
def refusing(path: Path | str, what: str, *, advice: str = "Make or download it again.") -> Iterator[None]:
    """Turn whatever a decoder raises on hostile or broken bytes into one sentence of ``InputError``.

    Decoders answer crafted input with nearly every exception there is, so all are caught; the block must hold
    nothing but calls of the decoder.
    """
    name = shown(path)
    try:
        yield
    except DosimeterError:
        raise
    except MemoryError:
        raise InputError(
            f"cannot read {name} as {what}: it does not fit into memory. Use a smaller part of it."
        ) from None
    except RecursionError:
        raise InputError(f"cannot read {name} as {what}: it is nested too deeply. {advice}") from None
    except Exception as error:
        raise InputError(f"cannot read {name} as {what}: {reason_of(error)}. {advice}") from error


def check_fits(path: Path, nbytes: int, max_bytes: int = 8 * GIB) -> None:
    """Raise ``InputError`` if ``path`` unpacks to more than ``max_bytes``, or to more than this machine has free."""
    if nbytes > max_bytes:
        raise InputError(
            f"{shown(path)} claims {size_text(nbytes)} of data, more than the limit of {size_text(max_bytes)}. "
            "Use a smaller part of it."
        )
    free = available_memory()
    if free is not None and nbytes > free:
        raise InputError(
            f"{shown(path)} unpacks to {size_text(nbytes)}, but only {size_text(free)} of memory are free. "
            "Use a smaller part of it, or a machine with more memory."
        )


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, or ``None`` where the system does not tell (it does on Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
