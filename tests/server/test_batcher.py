"""Requests share passes, keep their order and their bits, and fail alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dosimeter.core.errors import TargetError
from dosimeter.core.target import CallableTarget
from dosimeter.server.batcher import Batcher
from dosimeter.server.refusals import Refusal
from support.services import image_encoder

RNG = np.random.default_rng(0)


def run(target: Any, ask: Callable[[Batcher], Any], **settings: Any) -> tuple[Any, list[int]]:
    """What ``ask`` returns, and the sizes of the passes."""
    passes: list[int] = []

    async def work() -> Any:
        batcher = Batcher(
            target, **{"most_waiting": 10**6, **settings}, observe=lambda records, _: passes.append(records)
        )
        try:
            return await ask(batcher)
        finally:
            batcher.close(10)
            assert batcher.waiting == 0

    return asyncio.run(work()), passes


def held(function: Callable[[Any], Any], batch_size: int = 4, returns: str = "embedding"):
    """A target whose first pass waits for ``gate``."""
    gate = threading.Event()

    def answer(batch):
        assert gate.wait(10)
        return function(batch)

    made = CallableTarget(answer, modality="text", returns=returns, batch_size=batch_size)
    return made, gate


async def gathered(batcher: Batcher, gate: threading.Event, *requests: list[Any]) -> list[Any]:
    """Ask the first request, the rest while it is held, and let go."""
    futures = [batcher.ask(requests[0])]
    await asyncio.sleep(0.05)
    futures += [batcher.ask(request) for request in requests[1:]]
    gate.set()
    return await asyncio.gather(*futures, return_exceptions=True)


def vectors(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)


def test_requests_that_wait_share_passes_and_keep_their_order():
    target, gate = held(vectors)
    requests = [["a"], ["bb", "c"], ["ddd"], ["e", "ff", "g", "h", "i"], ["jjjj"]]
    answers, passes = run(target, lambda batcher: gathered(batcher, gate, *requests))
    for request, answer in zip(requests, answers):
        np.testing.assert_array_equal(answer, vectors(request))
    assert passes == [1, 4, 4, 1]


def test_company_changes_no_bit_and_shapes_do_not_mix():
    target = image_encoder(batch_size=8)
    small = RNG.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    wrong = RNG.integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)

    async def ask(batcher):
        futures = [batcher.ask(list(small[start : start + 3])) for start in range(0, 30, 3)]
        futures.insert(4, batcher.ask(list(wrong)))
        return await asyncio.gather(*futures, return_exceptions=True)

    answers, passes = run(target, ask)
    refusal = answers.pop(4)
    assert isinstance(refusal, Refusal) and refusal.status == 422
    assert "cannot answer records of shape (9, 8, 3)" in refusal.message
    alone = np.concatenate([target.answer(image[None]) for image in small])
    np.testing.assert_array_equal(np.concatenate(answers), alone)
    assert sum(passes) == 33 and max(passes) == 8


def test_a_request_that_breaks_the_model_fails_alone(caplog):
    def picky(texts):
        if "poison" in texts:
            raise ValueError("cannot convert 'poison'")
        return vectors(texts)

    target, gate = held(picky)
    answers, _ = run(target, lambda batcher: gathered(batcher, gate, ["a"], ["b"], ["poison"], ["c"]))
    assert isinstance(answers[2], Refusal) and answers[2].status == 500
    for number, text in ((0, "a"), (1, "b"), (3, "c")):
        np.testing.assert_array_equal(answers[number], vectors([text]))
    assert "ValueError at " in caplog.text
    assert "poison" not in caplog.text + answers[2].message


@pytest.mark.parametrize(
    "answer",
    [
        lambda texts: np.full((len(texts), 2), np.nan, dtype=np.float32),
        lambda texts: np.zeros((len(texts) + 1, 2)),
        lambda texts: np.zeros(len(texts)),
        lambda texts: 1 / 0,
    ],
)
def test_answers_that_are_none_are_the_fault_of_the_service(answer):
    target = CallableTarget(answer, modality="text", returns="embedding")
    [said], _ = run(target, lambda batcher: asyncio.gather(batcher.ask(["a"]), return_exceptions=True))
    assert isinstance(said, Refusal) and said.status == 500
    assert "Tell the operator" in said.message


def test_vectors_that_change_length_are_refused():
    target = CallableTarget(
        lambda texts: np.zeros((len(texts), len(texts[0]))), modality="text", returns="embedding"
    )

    async def ask(batcher):
        return [await batcher.ask(["a"]), *await asyncio.gather(batcher.ask(["bb"]), return_exceptions=True)]

    (first, second), _ = run(target, ask)
    assert first.shape == (1, 1) and second.status == 500


def test_a_shape_that_was_answered_before_is_no_mistake_of_the_client():
    calls = []

    def flaky(rows):
        calls.append(len(rows))
        if len(calls) > 1:
            raise TargetError("upstream is gone")
        return rows

    target = CallableTarget(flaky, modality="table", returns="embedding")

    async def ask(batcher):
        await batcher.ask([np.zeros(3)])
        return await asyncio.gather(
            batcher.ask([np.zeros(3)]), batcher.ask([np.zeros(4)]), return_exceptions=True
        )

    (known, unknown), _ = run(target, ask)
    assert (known.status, unknown.status) == (500, 422)


def test_a_full_queue_is_a_503():
    target, gate = held(vectors)

    async def ask(batcher):
        first = batcher.ask(["a", "b", "c"])
        batcher.require_room(2)
        with pytest.raises(Refusal, match="busy") as caught:
            batcher.require_room(3)
        gate.set()
        await first
        batcher.require_room(50)
        return caught.value

    refusal, _ = run(target, ask, most_waiting=5)
    assert refusal.status == 503 and refusal.headers["Retry-After"] == "1"


def test_waiting_for_company_fills_passes():
    target = CallableTarget(vectors, modality="text", returns="embedding", batch_size=4)

    async def ask(batcher):
        futures = []
        for text in "abcd":
            futures.append(batcher.ask([text]))
            await asyncio.sleep(0.02)
        return await asyncio.gather(*futures)

    answers, passes = run(target, ask, wait_seconds=2.0)
    assert passes == [4]
    np.testing.assert_array_equal(np.concatenate(answers), vectors(list("abcd")))


def test_closing_answers_what_waits():
    target, gate = held(vectors)

    async def work():
        batcher = Batcher(target, most_waiting=100)
        future = batcher.ask(["a", "b"])
        closing = asyncio.get_running_loop().run_in_executor(None, batcher.close, 10)
        await asyncio.sleep(0.02)
        with pytest.raises(Refusal, match="stopping"):
            batcher.require_room(1)
        gate.set()
        await closing
        return await future

    np.testing.assert_array_equal(asyncio.run(work()), vectors(["a", "b"]))


def test_texts_are_answered_as_texts():
    target = CallableTarget(lambda texts: [text.upper() for text in texts], modality="text", returns="text")
    answers, _ = run(target, lambda batcher: batcher.ask(["a", "b"]))
    assert answers == ["A", "B"]
