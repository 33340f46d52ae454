"""ZIP archives read in place: nothing is ever extracted, and every claim of the directory is checked first.

Refused: paths that leave the archive, links, encryption, doubled names, overlapping members (the "better zip bomb",
Fifield 2019), sizes that DEFLATE cannot reach, and compression other than stored or deflated.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, BinaryIO

from dosimeter.core.errors import InputError
from dosimeter.loading.sources import MIB, open_regular, refusing, shown, size_text

_MOST_DIRECTORY_BYTES = 64 * MIB
_DEFLATE_MOST_RATIO = 1032
_END = b"PK\x05\x06"
_END_BYTES = 22
_END64_LOCATOR_BYTES = 20


class Archive:
    """The regular files of a ZIP archive by name. Use as a context manager.

    Attributes:
        members: directory entry of every file, in the order of the archive; folders are left out.

    Raises:
        InputError: not a ZIP archive, or one of the refusals above.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self.path = path
        self.what = what
        self._file = open_regular(path, what=what)
        try:
            self._check_directory_size(self._file)
            with refusing(path, what):
                self._zip = zipfile.ZipFile(self._file)
            self.members = self._checked_members()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    def open(self, name: str) -> IO[bytes]:
        """A stream of member ``name``; reading it may raise anything, so read inside ``refusing``."""
        with refusing(f"{self.path}:{name}", self.what):
            return self._zip.open(self.members[name])

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """The whole of member ``name``, unless it is larger than ``max_bytes`` or damaged (``InputError``)."""
        size = self.members[name].file_size
        if size > max_bytes:
            raise self._refusal(
                name, f"is {size_text(size)}, more than the {size_text(max_bytes)} accepted here"
            )
        with self.open(name) as stream, refusing(f"{self.path}:{name}", self.what):
            return stream.read()

    def _check_directory_size(self, file: BinaryIO) -> None:
        """``zipfile`` loads the whole central directory, about ten bytes of memory for each of the file's."""
        size = file.seek(0, 2)
        tail_start = max(0, size - (1 << 16) - _END_BYTES - _END64_LOCATOR_BYTES)
        file.seek(tail_start)
        tail = file.read()
        end = len(tail) - _END_BYTES
        if tail[end : end + 4] != _END:
            end = tail.rfind(_END)
        if end < 0 or len(tail) < end + _END_BYTES:
            raise InputError(
                f"expected {shown(self.path)} to be {self.what}, but it is not a whole ZIP archive."
            )
        directory = int.from_bytes(tail[end + 12 : end + 16], "little")
        locator = tail[max(0, end - _END64_LOCATOR_BYTES) : end]
        if locator[:4] == b"PK\x06\x07":
            file.seek(min(int.from_bytes(locator[8:16], "little"), size))
            directory = max(directory % 0xFFFFFFFF, int.from_bytes(file.read(56)[40:48], "little"))
        if directory > _MOST_DIRECTORY_BYTES:
            raise InputError(
                f"the table of contents of {shown(self.path)} is {size_text(directory)}, more than the "
                f"{size_text(_MOST_DIRECTORY_BYTES)} accepted. Pack fewer files into one archive."
            )
        file.seek(0)

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        packed = 0
        for info in self._zip.infolist():
            problem = _problem(info)
            if problem is None and info.filename in members:
                problem = "is in it twice"
            if problem is not None:
                raise self._refusal(info.orig_filename, problem)
            packed += info.compress_size
            if not info.is_dir():
                members[info.filename] = info
        if packed > self._file.seek(0, 2):
            raise InputError(
                f"refused {shown(self.path)}: its members overlap, as in a zip bomb. Make it again."
            )
        return members

    def _refusal(self, name: str, problem: str) -> InputError:
        return InputError(
            f"refused {shown(self.path)}: its member '{shown(name)}' {problem}. Make the archive again."
        )


def _problem(info: zipfile.ZipInfo) -> str | None:
    # The raw name: ``filename`` ends at the first NUL, which would hide the rest from the user.
    name = info.orig_filename
    parts = PurePosixPath(name).parts
    if (
        not parts
        or "\0" in name
        or "\\" in name
        or name.startswith("/")
        or ".." in parts
        or parts[0][1:2] == ":"
    ):
        return "has a path that leads out of the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type == zipfile.ZIP_STORED:
        return "lies about its size" if info.compress_size != info.file_size else None
    if info.compress_type != zipfile.ZIP_DEFLATED:
        return "is compressed in a way that is neither stored nor deflated"
    if info.file_size > _DEFLATE_MOST_RATIO * (info.compress_size + 1):
        return f"claims {size_text(info.file_size)}, more than its {size_text(info.compress_size)} can hold"
    return None
