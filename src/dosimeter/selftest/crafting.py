"""Tools to make hostile files with: a case, pickles that run something, ZIP archives that lie."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dosimeter.selftest.sandbox import CANARY_VARIABLE, Outcome

#: Given the path of the file to make and that of the canary: the bytes of the file, or ``None`` if it was made already.
Content = Callable[[Path, Path], "bytes | None"]


@dataclass(frozen=True)
class Case:
    """A file and what should come of loading it.

    Attributes:
        name: of the file, suffix included; no two cases share one.
        what: what is wrong with the file.
        loader: a key of ``sandbox.LOADERS``.
        content: the bytes, or what makes them.
        expect: ``refused`` with one line, unless the file is harmless or a control.
        seconds: longest time to wait.
    """

    name: str
    what: str
    loader: str
    content: bytes | Content
    expect: Outcome = "refused"
    seconds: float = 20.0

    def make(self, path: Path, canary: Path) -> None:
        """Put the file at ``path``."""
        data = self.content if isinstance(self.content, bytes) else self.content(path, canary)
        if data is not None:
            path.write_bytes(data)


class Call:
    """Pickles as the call of ``function`` with ``arguments`` on loading."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def system_pickle(canary: Path, protocol: int = 2) -> bytes:
    """A pickle that starts a shell, which leaves ``canary``."""
    return pickle.dumps(Call(os.system, f"touch '{canary}'"), protocol)


def exec_pickle(protocol: int = 2) -> bytes:
    """A pickle that runs Python code, which sets the canary's environment variable."""
    return pickle.dumps(Call(exec, f"import os; os.environ[{CANARY_VARIABLE!r}] = '1'"), protocol)


@dataclass(frozen=True)
class Member:
    """A ZIP member whose directory entry may say anything.

    Attributes:
        data: the bytes in the archive; compressed already where ``method`` is not 0.
        size: the size it claims to unpack to; by default that of ``data``.
        crc: its checksum; by default that of ``data``.
        mode: Unix mode, for links.
        offset: where its local header is said to be, if not where it is.
    """

    name: str
    data: bytes
    method: int = 0
    size: int | None = None
    crc: int | None = None
    flags: int = 0
    mode: int = 0o100644
    offset: int | None = None


def zip_bytes(members: Sequence[Member], *, directory_bytes: int | None = None) -> bytes:
    """A ZIP archive of ``members``; ``directory_bytes`` is the length its end record claims for the directory."""
    body, directory = io.BytesIO(), io.BytesIO()
    for member in members:
        name = member.name.encode()
        size = len(member.data) if member.size is None else member.size
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        wide = b"" if size < 0xFFFFFFFF else struct.pack("<HHQ", 1, 8, size)
        shared = struct.pack(
            "<HHHHHIII", 20, member.flags, member.method, 0, 33, crc, len(member.data), min(size, 0xFFFFFFFF)
        ) + struct.pack("<HH", len(name), len(wide))
        offset = body.tell() if member.offset is None else member.offset
        directory.write(b"PK\1\2" + struct.pack("<H", 0x0314) + shared)
        directory.write(struct.pack("<HHHII", 0, 0, 0, member.mode << 16, offset) + name + wide)
        if member.offset is None:
            body.write(b"PK\3\4" + shared + name + wide + member.data)
    start, length = body.tell(), directory.tell()
    end = struct.pack(
        "<HHHHIIH",
        0,
        0,
        len(members),
        len(members),
        length if directory_bytes is None else directory_bytes,
        start,
        0,
    )
    return body.getvalue() + directory.getvalue() + b"PK\5\6" + end


def deflated_zeros(mebibytes: int, *, start: bytes = b"") -> bytes:
    """Raw DEFLATE of ``start`` and ``mebibytes`` MiB of zeros, made without compressing them all."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = compressor.compress(start) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return head + block * mebibytes + compressor.flush()
