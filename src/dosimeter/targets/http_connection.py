"""HTTP/1.1 connections for one service, without the cost of a general connection pool.

httpx's own pool looks through all connections and all waiting requests whenever one of them changes; with 64 requests in
flight that caps it at a few hundred requests per second (``benchmarks/http_throughput.py``). This transport keeps idle
connections on a stack and leaves waiting to the caller. The protocol itself is h11's, sockets and TLS are asyncio's.
Does not own: limits on requests in flight, time-outs, redirects, proxies.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import h11
import httpx

_READ_BYTES = 65536
_MOST_IDLE_SECONDS = 15.0


@dataclass(eq=False)
class _Connection:
    """An open socket and where its HTTP conversation stands."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection
    idle_since: float = 0.0

    @property
    def reusable(self) -> bool:
        fresh = time.monotonic() - self.idle_since < _MOST_IDLE_SECONDS
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()

    async def next_event(self) -> Any:
        """The next h11 event of the response, read from the socket as needed."""
        try:
            while (event := self.protocol.next_event()) is h11.NEED_DATA:
                data = await self.reader.read(_READ_BYTES)
                if not data and self.protocol.their_state is h11.SEND_RESPONSE:
                    raise httpx.RemoteProtocolError("it closed the connection without answering")
                self.protocol.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        return event

    def close(self) -> None:
        self.writer.close()


class _Body(httpx.AsyncByteStream):
    """The body of one response; gives the connection back when it was read to its end."""

    def __init__(self, connection: _Connection, idle: list[_Connection]) -> None:
        self._connection, self._idle = connection, idle

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while type(event := await self._connection.next_event()) is h11.Data:
            yield bytes(event.data)

    async def aclose(self) -> None:
        connection = self._connection
        try:
            connection.protocol.start_next_cycle()
        except h11.LocalProtocolError:
            connection.close()
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)


class DirectTransport(httpx.AsyncBaseTransport):
    """Opens a connection whenever no idle one is left. For one host; used on one event loop."""

    def __init__(self) -> None:
        self._idle: list[_Connection] = []
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        connection = self._take_idle() or await self._connect(request.url)
        try:
            self._send(connection, request)
            while type(event := await connection.next_event()) is h11.InformationalResponse:
                pass
        except BaseException:
            connection.close()
            raise
        assert isinstance(event, h11.Response)
        return httpx.Response(
            event.status_code, headers=event.headers.raw_items(), stream=_Body(connection, self._idle)
        )

    def _send(self, connection: _Connection, request: httpx.Request) -> None:
        try:
            head = h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            )
            data = connection.protocol.send(head) or b""
            data += connection.protocol.send(h11.Data(data=request.content)) or b""
            data += connection.protocol.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        connection.writer.write(data)

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            connection.close()
        return None

    async def _connect(self, url: httpx.URL) -> _Connection:
        secure = url.scheme == "https"
        if secure and self._tls is None:
            self._tls = httpx.create_ssl_context()
        try:
            reader, writer = await asyncio.open_connection(
                url.host,
                url.port or (443 if secure else 80),
                ssl=self._tls if secure else None,
                happy_eyeballs_delay=0.25,
            )
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return _Connection(reader, writer, h11.Connection(h11.CLIENT))

    async def aclose(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)
