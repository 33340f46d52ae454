"""A service from its first connection to its last: the socket, the signals, the end."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.core.target import Target
from dosimeter.server.audit_log import AuditLog
from dosimeter.server.keys import KeyStore
from dosimeter.server.spec import ServerSettings, ServiceSpec, build_service

if TYPE_CHECKING:
    from pathlib import Path

    import uvicorn

_BACKLOG = 256
_HEAD_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 15
_START_SECONDS = 30.0


class Service:
    """A target behind HTTP.

    Args:
        target: who answers, behind its defences.
        name: what the service and its model are called.
        keys_file: SQLite file of keys and usage.
        audit_file: JSONL file of the audit log; ``None`` writes none.

    Raises:
        MissingExtra: the extra 'server' is not installed.
        InputError: a file cannot be used.
    """

    def __init__(
        self,
        target: Target,
        *,
        name: str,
        keys_file: Path,
        audit_file: Path | None = None,
        settings: ServerSettings | None = None,
    ) -> None:
        require_server()
        self.target, self.name, self.settings = target, name, settings or ServerSettings()
        self.keys = KeyStore(keys_file)
        self._audit_file = audit_file
        self._socket: socket.socket | None = None

    @classmethod
    def of(cls, spec: ServiceSpec) -> Service:
        """The service that ``spec`` describes, with its target made."""
        require_server()
        return cls(
            build_service(spec),
            name=spec.name,
            keys_file=spec.keys_file,
            audit_file=spec.audit_file,
            settings=spec.server,
        )

    def listen(self) -> str:
        """Take the port; connections wait from now on. Gives the address, such as ``http://127.0.0.1:8080``.

        Raises:
            InputError: the address is taken, or is none of this machine.
        """
        settings = self.settings
        if self._socket is None:
            family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            # With its protocol named: asyncio turns off Nagle's algorithm only for sockets that say TCP.
            self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._socket.bind((settings.host, settings.port))
                self._socket.listen(_BACKLOG)
            except OSError as error:
                self._socket.close()
                self._socket = None
                raise InputError(
                    f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}. Choose another "
                    "server.host or server.port; port 0 takes a free one."
                ) from error
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        scheme = "http" if settings.tls_certificate is None else "https"
        return f"{scheme}://{host}:{self._socket.getsockname()[1]}"

    def run(self, *, started: Callable[[uvicorn.Server], None] | None = None) -> bool:
        """Serve until a signal to stop, in the main thread, or until ``should_exit`` of the server is set.

        The first SIGTERM or SIGINT stops accepting and lets requests end, for ``drain_seconds`` at most; the second one
        ends at once.

        Args:
            started: given the server before it begins.

        Returns:
            Whether every request that had begun was let end.
        """
        from dosimeter.server.application import create_app
        from dosimeter.server.desk import Desk

        self.listen()
        try:
            audit = None
            if self._audit_file is not None:
                audit = AuditLog(self._audit_file, most_bytes=self.settings.audit_log_bytes)
            desk = Desk(self.name, self.target, self.settings, self.keys, audit)
            server = _server(create_app(desk), self.settings)
        except BaseException:
            self.close()
            raise
        if started is not None:
            started(server)
        try:
            server.run(sockets=[self._socket])
        finally:
            desk.close(at_once=server.force_exit)
            self.close()
        return not server.force_exit

    def close(self) -> None:
        """Give up the port and close the key file and the target; :meth:`run` does so at its end. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.keys.close()
        self.target.close()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve from a thread inside the block; gives the address. At its end requests are let end."""
        address = self.listen()
        servers: list[uvicorn.Server] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self.run(started=servers.append)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work, name=f"dosimeter service {self.name}", daemon=True)
        thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not (servers and servers[0].started):
            if failures:
                raise failures[0]
            if time.monotonic() > deadline:
                raise InputError(f"service '{self.name}' did not start within {_START_SECONDS:g} s.")
            time.sleep(0.005)
        try:
            yield address
        finally:
            servers[0].should_exit = True
            thread.join(self.settings.drain_seconds + _START_SECONDS)
        if failures:
            raise failures[0]


def require_server() -> None:
    """Raise ``MissingExtra`` unless FastAPI, uvicorn and prometheus-client are installed."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(f"'dosimeter serve' (which imports {error.name})", "server") from error


def _server(app: Any, settings: ServerSettings) -> uvicorn.Server:
    import uvicorn

    from dosimeter.server.connections import timed_protocol

    class Server(uvicorn.Server):
        """uvicorn, whose second signal of either kind ends at once, and which does not die of the first."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

    config = uvicorn.Config(
        app,
        http="httptools" if find_spec("httptools") else "h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # strangers who speak no HTTP are not worth a line each
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    config.load()
    config.http_protocol_class = timed_protocol(
        config.http_protocol_class,
        head_seconds=_HEAD_SECONDS,
        answer_seconds=settings.answer_seconds,
        most_connections=settings.max_connections,
    )
    return Server(config)
