"""The clocks around a connection, on a protocol and a transport that only note what is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from dosimeter.server.connections import timed_protocol


class Transport:
    def __init__(self) -> None:
        self.said: list[str] = []

    def write(self, data: bytes) -> None:
        self.said.append(data.split(b"\r\n")[0].decode())

    def close(self) -> None:
        self.said.append("closed")

    def abort(self) -> None:
        self.said.append("aborted")

    def is_closing(self) -> bool:
        return "closed" in self.said


class Protocol:
    """What uvicorn's protocols have."""

    def __init__(self, connections: set[Any]) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections, self.cycle = connections, None

    def connection_made(self, transport: Transport) -> None:
        self.connections.add(self)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b"head":
            self.cycle = SimpleNamespace(response_complete=False)

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)


def said(act: Callable[[Any], Awaitable[None]], **limits: Any) -> list[str]:
    """What was done to the transport of a connection after ``act`` on it, a good while later."""

    async def work() -> list[str]:
        settings = {"head_seconds": 0.05, "answer_seconds": 0.05, "most_connections": 1, **limits}
        connection = timed_protocol(Protocol, **settings)(set())
        connection.connection_made(Transport())
        await act(connection)
        await asyncio.sleep(0.15)
        done = connection.transport.said[:]
        connection.connection_lost(None)
        return done

    return asyncio.run(work())


async def sends_nothing(connection: Any) -> None: ...


async def sends_half_a_head(connection: Any) -> None:
    connection.data_received(b"he")


async def is_answered_and_dawdles(connection: Any) -> None:
    connection.data_received(b"head")
    connection.cycle.response_complete = True
    connection.data_received(b"he")


async def is_being_answered(connection: Any) -> None:
    connection.data_received(b"head")


async def does_not_take_its_answer(connection: Any) -> None:
    connection.data_received(b"head")
    connection.pause_writing()
    connection.pause_writing()


async def takes_its_answer(connection: Any) -> None:
    connection.data_received(b"head")
    connection.pause_writing()
    connection.resume_writing()


def test_a_head_must_come_in_time():
    assert said(sends_nothing) == said(sends_half_a_head) == said(is_answered_and_dawdles) == ["closed"]
    assert said(is_being_answered) == []


def test_an_answer_must_be_taken_in_time():
    assert said(does_not_take_its_answer) == ["aborted"]
    assert said(takes_its_answer) == []


def test_connections_beyond_the_limit_are_turned_away():
    assert said(sends_nothing, most_connections=0) == ["HTTP/1.1 503 Service Unavailable", "closed"]
