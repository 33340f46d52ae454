"""The folder where studies keep their state: store, answers, ledgers, locks, intermediate work."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dosimeter.core.errors import DosimeterError
from dosimeter.core.files import ensure_writable_folder


class InUse(DosimeterError):
    """Another process is working on the same thing."""


@dataclass(frozen=True)
class Home:
    """State folder; ``.dosimeter`` in the current folder unless ``DOSIMETER_HOME`` names another."""

    folder: Path

    @classmethod
    def default(cls) -> Home:
        """The folder that ``DOSIMETER_HOME`` names, or ``.dosimeter``, as an absolute path."""
        return cls(Path(os.environ.get("DOSIMETER_HOME") or ".dosimeter").absolute())

    @property
    def store_file(self) -> Path:
        """The runs, where no other database is named for them."""
        return self.folder / "store.sqlite"

    @property
    def store_url(self) -> str:
        """Database URL of :attr:`store_file`."""
        return f"sqlite:///{self.store_file}"

    @property
    def answers(self) -> Path:
        """Every answer that a target ever gave, shared by all runs."""
        return self.folder / "answers.sqlite"

    @property
    def cache(self) -> Path:
        """Intermediate work of attacks, shared by all runs."""
        return self.folder / "cache"

    def ledger(self, run: str) -> Path:
        """Bill of one run: what it asked, and what it may still ask."""
        return self.folder / "ledgers" / f"{run}.sqlite"

    def identity(self) -> str:
        """What tells this folder from all others, also on other machines; made on first use.

        Raises:
            InputError: the folder cannot be written.
        """
        file = ensure_writable_folder(self.folder, flag="--home") / "identity"
        if not file.exists():
            made = file.with_name(f".identity.{secrets.token_hex(8)}.partial")
            made.write_text(secrets.token_hex(16), encoding="ascii")
            with suppress(FileExistsError):
                os.link(made, file)  # unlike a rename, leaves what another process made first
            made.unlink()
        return file.read_text(encoding="ascii").strip()

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Hold the lock named ``what``; a killed process lets go of it.

        Raises:
            InUse: another process holds it.
        """
        folder = ensure_writable_folder(self.folder / "locks", flag="--home")
        lock = FileLock(folder / f"{what}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InUse(
                f"another process is working on {what} in {self.folder}. Wait for it to end."
            ) from None
        try:
            yield
        finally:
            lock.release()
