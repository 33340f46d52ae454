"""A slow loopback service that labels words and remembers every word it was ever asked."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CLASSES = 7


class WordService:
    """Answers ``{"words": [...]}`` with ``{"labels": [...]}`` after a delay; ``asked`` has every word in order."""

    def __init__(self, delay_seconds: float) -> None:
        self.asked: list[str] = []
        self.delay_seconds = delay_seconds
        self.port = 0
        self._lock = threading.Lock()

    def answer(self, words: list[str]) -> list[int]:
        """One label in 0..``CLASSES`` - 1 per word, fixed by its spelling; notes the words before it waits."""
        with self._lock:
            self.asked.extend(words)
        time.sleep(self.delay_seconds)
        return [zlib.crc32(word.encode()) % CLASSES for word in words]

    @contextmanager
    def running(self) -> Iterator[WordService]:
        """Serve on a free loopback port inside the block."""
        server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed on purpose; their broken connections are no news."""


def _handler(service: WordService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            words = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["words"]
            body = json.dumps({"labels": service.answer(words)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is logged."""

    return Handler
