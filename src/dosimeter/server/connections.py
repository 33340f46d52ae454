"""Clients that are slow on purpose, or many: a connection must send the head of a request, and take its answer, in time.

uvicorn limits neither, so a class around its protocol does. Bodies are timed where they are read (``body``).
"""

from __future__ import annotations

import asyncio
from typing import Any

from dosimeter.server.refusals import unavailable


def timed_protocol(
    base: type[Any], *, head_seconds: float, answer_seconds: float, most_connections: int
) -> type[Any]:
    """``base``, a protocol class of uvicorn, that hangs up on clients which take longer, and on those beyond a number.

    Args:
        head_seconds: within which the head of a request must have arrived.
        answer_seconds: within which the client must have taken its answer.
        most_connections: open at once; those beyond get a 503.
    """
    body = unavailable("the service has as many connections as it takes; try again in a moment.").body
    busy = (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )

    class Timed(base):  # type: ignore[misc]
        """A connection with a clock."""

        _head_timer: asyncio.TimerHandle | None = None
        _answer_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > most_connections:
                transport.write(busy)
                transport.close()
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._expect_head()
            elif self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._answer_timer is None:
                self._answer_timer = self.loop.call_later(answer_seconds, self._abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._answer_timer is not None:
                self._answer_timer.cancel()
                self._answer_timer = None

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._head_timer, self._answer_timer):
                if timer is not None:
                    timer.cancel()
            self._head_timer = self._answer_timer = None
            super().connection_lost(exc)

        def _expect_head(self) -> None:
            if self._head_timer is None and not self.transport.is_closing():
                self._head_timer = self.loop.call_later(head_seconds, self._no_head)

        def _no_head(self) -> None:
            self._head_timer = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

        def _abort(self) -> None:
            self._answer_timer = None
            self.transport.abort()

    return Timed
