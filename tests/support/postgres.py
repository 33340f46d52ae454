"""A PostgreSQL server of the tests' own: in a temporary folder, on a free port, started and stopped at will.

``DOSIMETER_TEST_POSTGRES`` names a server to use instead; what has to stop the server is skipped there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

VARIABLE = "DOSIMETER_TEST_POSTGRES"
_LONGEST_SECONDS = 60


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl; ``None`` where no server is installed."""
    found = shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class PostgresServer:
    """A server on loopback with one user, ``auditor``, who has a password."""

    user = "auditor"

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="dosimeter-postgres-"))
        self.data = self.folder / "data"
        self.password = f"pw-{secrets.token_hex(6)}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            for path in (self.folder, secret):
                shutil.chown(path, "postgres")
        self._run("initdb", "-D", self.data, "-U", self.user, "-A", "scram-sha-256", "--pwfile", secret, "-N")
        self.start()

    def url(self, **query: str) -> str:
        """Of the database, for SQLAlchemy."""
        options = "&".join(f"{key}={value}" for key, value in query.items())
        place = f"{self.user}:{self.password}@127.0.0.1:{self.port}/postgres"
        return f"postgresql+psycopg://{place}{'?' if options else ''}{options}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off -c shared_buffers=16MB"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it as a machine that goes down would: every connection is cut."""
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Stop it, and leave nothing."""
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # To a file, not a pipe: the server inherits it, and the pipe would never end.
        with (self.folder / "messages").open("wb") as messages:
            done = subprocess.run(
                command, stdout=messages, stderr=messages, timeout=_LONGEST_SECONDS, cwd=self.folder
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {(self.folder / 'messages').read_text()}")


def server_or_skip() -> PostgresServer:
    """A server; skips the test, and says why, where none is installed."""
    programs = binaries()
    if programs is None:
        pytest.skip(
            "no PostgreSQL server (initdb, pg_ctl) is installed; on Debian: apt-get install postgresql"
        )
    return PostgresServer(programs)
