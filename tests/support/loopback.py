"""A JSON service on the loopback interface that behaves well, or badly on demand, and counts what it gets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """What the service does with one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    delay_seconds: float = 0.0
    hang_up: bool = False
    raw: bytes | None = None
    """Bytes to write instead of a well-formed response, before hanging up."""


def rate_limited(retry_after: str | None = None) -> Reply:
    headers = {"Content-Type": "application/json"} | ({"Retry-After": retry_after} if retry_after else {})
    return Reply(429, b'{"error": "slow down"}', headers)


def html(status: int = 200) -> Reply:
    return Reply(
        status, b"<!doctype html><title>Please log in</title>", {"Content-Type": "text/html; charset=utf-8"}
    )


def redirect(location: str) -> Reply:
    return Reply(307, b"", {"Location": location})


Misbehaviour = Callable[[int, bytes], Reply | None]
"""(number of the request from 0, its body) -> what to do instead of answering; ``None`` answers."""


class LoopbackService:
    """Use as a context manager: listens on a free port in a thread of its own.

    Args:
        answer: parsed JSON request -> JSON answer.
        misbehave: overrides ``answer`` for some requests.
        delay_seconds: time every answer takes.
    """

    def __init__(
        self,
        answer: Callable[[Any], Any],
        *,
        misbehave: Misbehaviour | None = None,
        delay_seconds: float = 0.0,
    ) -> None:
        self._answer, self._misbehave, self._delay = answer, misbehave, delay_seconds
        self.requests = 0
        self.answered = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.keys: list[str] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/predict"

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                self.paths.append(first.split(" ")[1])
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                number, self.requests = self.requests, self.requests + 1
                self.keys.append(headers.get("idempotency-key", ""))
                self.headers.append(headers)
                self.bodies.append(json.loads(body))
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    reply = await self._reply(number, body)
                finally:
                    self.in_flight -= 1
                if reply.raw is not None:
                    writer.write(reply.raw)
                    await writer.drain()
                if reply.hang_up or reply.raw is not None:
                    break
                lines = [f"HTTP/1.1 {reply.status} X", f"Content-Length: {len(reply.body)}"]
                lines += [f"{name}: {value}" for name, value in reply.headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _reply(self, number: int, body: bytes) -> Reply:
        reply = self._misbehave(number, body) if self._misbehave else None
        if reply is None:
            answer = self._answer(json.loads(body))
            reply = Reply(body=json.dumps(answer).encode(), delay_seconds=self._delay)
            self.answered += 1
        if reply.delay_seconds:
            await asyncio.sleep(reply.delay_seconds)
        return reply
