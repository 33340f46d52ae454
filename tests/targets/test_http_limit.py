"""Additive increase, multiplicative decrease."""

from __future__ import annotations

import asyncio

import pytest

from dosimeter.targets.http_limit import AdaptiveLimit, Stopped


def test_never_more_in_flight_than_slots():
    async def run() -> int:
        limit, stop, most = AdaptiveLimit(3), asyncio.Event(), 0

        async def work() -> None:
            nonlocal most
            async with limit.slot(stop):
                most = max(most, limit.in_flight)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(work() for _ in range(20)))
        assert limit.in_flight == 0
        return most

    assert asyncio.run(run()) == 3


def test_overload_halves_once_per_generation_and_success_restores():
    async def run() -> None:
        limit = AdaptiveLimit(16)
        async with limit.slot(asyncio.Event()) as first, limit.slot(asyncio.Event()) as second:
            await asyncio.sleep(0.001)
            limit.overloaded(first)
            limit.overloaded(second)
            assert limit.slots == 8
        await asyncio.sleep(0.001)
        async with limit.slot(asyncio.Event()) as third:
            limit.overloaded(third)
            assert limit.slots == 4
        for _ in range(4):
            limit.succeeded()
        assert 4.8 < limit.slots <= 5
        for _ in range(200):
            limit.succeeded()
        assert limit.slots == 16
        for _ in range(9):
            await asyncio.sleep(0.001)
            async with limit.slot(asyncio.Event()) as entered:
                limit.overloaded(entered)
        assert limit.slots == 1

    asyncio.run(run())


def test_a_pause_holds_everyone():
    async def run() -> float:
        limit, loop = AdaptiveLimit(4), asyncio.get_running_loop()
        async with limit.slot(asyncio.Event()) as entered:
            limit.overloaded(entered, pause_seconds=0.1)
        started = loop.time()
        async with limit.slot(asyncio.Event()):
            return loop.time() - started

    assert asyncio.run(run()) >= 0.09


def test_stopping_ends_waits_and_a_cancelled_wait_frees_its_turn():
    async def run() -> None:
        limit, stop = AdaptiveLimit(1), asyncio.Event()

        async def enter() -> None:
            async with limit.slot(stop):
                pass

        async with limit.slot(stop):
            cancelled, waiting = asyncio.create_task(enter()), asyncio.create_task(enter())
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.sleep(0)
        await waiting
        async with limit.slot(stop) as entered:
            limit.overloaded(entered, pause_seconds=60)
        paused = asyncio.create_task(enter())
        await asyncio.sleep(0)
        stop.set()
        with pytest.raises(Stopped):
            await paused
        assert limit.in_flight == 0

    asyncio.run(asyncio.wait_for(run(), 5))
