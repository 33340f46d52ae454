"""Reports and the files of cells on any fsspec URL: ``s3://bucket/audits``, ``memory://audits``, ``file:///mnt/audits``.

A run goes into a folder of its own name below the URL. Each file is sent under a temporary name, read back, compared with
what was sent and only then given its name, so that it is whole or absent. ``manifest.json`` is written last: where it
is, everything it lists is there, with size and SHA-256. Credentials come from the environment, as the file system's own
package takes them; a URL that holds any is refused.

Does not own: what is in a report (``report.write``), when it is sent (``study.run``).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dosimeter.core.errors import DosimeterError, InputError, MissingExtra
from dosimeter.core.files import write_atomic
from dosimeter.core.progress import track

MANIFEST = "manifest.json"
_PIECE_BYTES = 4 * 2**20
_HAVE_FOLDERS = {
    "file",
    "local",
    "memory",
    "sftp",
    "ssh",
    "ftp",
    "smb",
    "hdfs",
    "arrow_hdfs",
    "webhdfs",
    "webdav",
    "dbfs",
}
_SECRET = re.compile(r"key|secret|token|password|credential|connection_string", re.IGNORECASE)
_SHORTEST_SECRET = 6


class UploadError(DosimeterError):
    """Files could not be sent to, or fetched from, where they are kept."""


class Entry(NamedTuple):
    """What the manifest says of a file."""

    sha256: str
    bytes: int


class RemoteFolder:
    """A place for the files of runs.

    Args:
        url: of a folder, as fsspec knows it.

    Raises:
        InputError: no such file system, credentials in the URL, or nothing can be written there.
        MissingExtra: fsspec is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "fsspec":
                raise
            raise MissingExtra("--artifacts", "remote") from error
        try:
            self._system, self._base = url_to_fs(self.url)
        except ImportError as error:
            raise InputError(
                f"cannot use the place of the artifacts {self.url}: {_line(error)}. Install the package that it names."
            ) from None
        except Exception as error:
            raise InputError(
                f"cannot use the place of the artifacts {self.url}: {_line(error)}. Give a URL of fsspec, which starts with "
                "a protocol such as s3://, gs://, abfs://, sftp:// or file://."
            ) from None

    def of(self, run: str) -> str:
        """The URL of the folder of ``run``."""
        return f"{self.url}/{run}"

    def check(self) -> None:
        """Find out before a run whether its files could be kept: write and remove a small one.

        Raises:
            InputError: they could not.
        """
        name = f"{self._base}/.dosimeter-{secrets.token_hex(8)}"
        try:
            self._make_folder(self._base)
            self._system.pipe_file(name, b"?")
            self._system.rm_file(name)
        except Exception as error:
            raise InputError(
                f"cannot write into {self.url}: {_line(error)}. Check the place, and the credentials in the environment; "
                "nothing has run."
            ) from error

    def manifest(self, run: str) -> dict[str, Entry]:
        """What is there of ``run``; empty if nothing is.

        Raises:
            UploadError: one cannot tell.
        """
        with self._failing(run, "read"):
            try:
                text = self._system.cat_file(f"{self._base}/{run}/{MANIFEST}")
            except FileNotFoundError:
                return {}
            return {name: Entry(**entry) for name, entry in json.loads(text)["files"].items()}

    def put(self, run: str, folder: Path, names: list[str]) -> None:
        """Send the files ``names`` of ``folder``; those of ``run`` that are there and not among them stay.

        Raises:
            UploadError: some could not be sent; each is whole or absent, and the manifest tells only of whole ones.
        """
        entries = self.manifest(run)
        with self._failing(run, "write"), track("sending artifacts", len(names)) as bar:
            for name in names:
                entries[name] = self._put(folder / name, f"{self._base}/{run}/{name}")
                bar.advance()
            files = {name: entry._asdict() for name, entry in sorted(entries.items())}
            text = json.dumps({"run": run, "files": files}, indent=1).encode()
            self._settle(f"{self._base}/{run}/{MANIFEST}", lambda to: to.write(text), hashlib.sha256(text))

    def get(self, run: str, name: str, entry: Entry, folder: Path) -> None:
        """Fetch a file of ``run`` into ``folder``.

        Raises:
            UploadError: it cannot be read, or is not what the manifest says.
        """
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise UploadError(
                f"{self.of(run)}/{MANIFEST} names the file '{name}', which lies outside its folder."
            )

        def copy(file: Any) -> None:
            digest = hashlib.sha256()
            with self._system.open(f"{self._base}/{run}/{name}", "rb") as source:
                for piece in _pieces(source):
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != entry.sha256:
                raise _Differs

        with self._failing(run, "read"):
            write_atomic(path, copy)

    def _put(self, path: Path, place: str) -> Entry:
        digest, size = hashlib.sha256(), 0

        def send(to: Any) -> None:
            nonlocal size
            with path.open("rb") as file:
                for piece in _pieces(file):
                    digest.update(piece)
                    size += len(piece)
                    to.write(piece)

        self._settle(place, send, digest)
        return Entry(digest.hexdigest(), size)

    def _settle(self, place: str, send: Any, digest: Any) -> None:
        """Write with ``send``, compare with ``digest`` (complete by then), and only then give the file its name."""
        folder, _, name = place.rpartition("/")
        partial = f"{folder}/.{name}.{secrets.token_hex(8)}.partial"
        try:
            self._make_folder(folder)
            with self._system.open(partial, "wb") as to:
                send(to)
            there = hashlib.sha256()
            with self._system.open(partial, "rb") as source:
                for piece in _pieces(source):
                    there.update(piece)
            if there.digest() != digest.digest():
                raise _Differs
            self._system.mv(partial, place)
        except BaseException:
            with suppress(Exception):
                self._system.rm_file(partial)
            raise

    def _make_folder(self, folder: str) -> None:
        """Where folders are things. Object stores need none, and some would make a bucket of a name that is mistyped."""
        protocols = self._system.protocol
        if _HAVE_FOLDERS & set([protocols] if isinstance(protocols, str) else protocols):
            self._system.makedirs(folder, exist_ok=True)

    @contextmanager
    def _failing(self, run: str, what: str) -> Iterator[None]:
        try:
            yield
        except DosimeterError:
            raise
        except Exception as error:
            raise UploadError(
                f"cannot {what} the artifacts of run {run} at {self.of(run)}: {_line(error)}. The run is kept; repeat with "
                f"'dosimeter report {run} --artifacts {self.url}'."
            ) from error


class _Differs(Exception):
    """What arrived is not what was sent."""

    def __str__(self) -> str:
        return "what is there is not what was sent"


def _checked(url: str) -> str:
    if "::" in url:
        raise InputError("the place of the artifacts must be one URL, not a chain with '::'.")
    try:
        parts = urlsplit(url)
        held = bool(parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        held, parts = True, None
    if held:
        raise InputError(
            "the place of the artifacts must be a URL without user, password, '?' and '#', because it is shown and kept. "
            "Give credentials in the environment, as the file system's own package takes them."
        )
    if parts is None or "://" not in url or not parts.netloc + parts.path.strip("/"):
        raise InputError(
            f"expected the place of the artifacts as a URL such as s3://bucket/audits, but got '{url}'; a folder of this "
            "machine is named with --out, or as file:///folder."
        )
    return url.rstrip("/")


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _line(error: BaseException) -> str:
    said = str(error).strip().partition("\n")[0].rstrip(".")
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            said = said.replace(value, "***")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
