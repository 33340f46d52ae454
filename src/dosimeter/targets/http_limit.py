"""How many requests may be in flight: additive increase, multiplicative decrease (Chiu and Jain, 1989).

Lives on one event loop; nothing here is thread-safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Stopped(Exception):
    """Nothing more is to be sent."""


async def sleep_until_stopped(seconds: float, stop: asyncio.Event) -> None:
    """Sleep ``seconds``, or until ``stop`` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class AdaptiveLimit:
    """Slots for requests in flight, between 1 and ``ceiling``, starting at ``ceiling``.

    A sign of overload halves the number of slots, once per generation of requests: those that left before the last cut
    do not cut again. Every success adds ``1 / slots``, so one slot per round trip.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.slots = float(ceiling)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._last_cut = 0.0
        self._resume_at = 0.0

    @asynccontextmanager
    async def slot(self, stop: asyncio.Event) -> AsyncIterator[float]:
        """Wait for a free slot and the end of any pause; yields the time at which it was entered.

        Raises:
            Stopped: ``stop`` was set meanwhile.
        """
        loop = asyncio.get_running_loop()
        while True:
            pause = self._resume_at - loop.time()
            if stop.is_set():
                self._wake()
                raise Stopped
            if pause > 0:
                await sleep_until_stopped(pause, stop)
            elif self.in_flight < int(self.slots):
                break
            else:
                turn = loop.create_future()
                self._waiting.append(turn)
                try:
                    await turn
                except asyncio.CancelledError:
                    if turn.done() and not turn.cancelled():
                        self._wake()
                    raise
        self.in_flight += 1
        try:
            yield loop.time()
        finally:
            self.in_flight -= 1
            self._wake()

    def succeeded(self) -> None:
        """Note an answer in time."""
        self.slots = min(self.ceiling, self.slots + 1 / self.slots)
        self._wake()

    def overloaded(self, entered_at: float, *, pause_seconds: float = 0.0) -> None:
        """Note that the request that entered at ``entered_at`` met an overloaded service, which asked for a pause."""
        now = asyncio.get_running_loop().time()
        self._resume_at = max(self._resume_at, now + pause_seconds)
        if entered_at >= self._last_cut:
            self._last_cut = now
            self.slots = max(1.0, self.slots / 2)

    def _wake(self) -> None:
        free = int(self.slots) - self.in_flight
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
