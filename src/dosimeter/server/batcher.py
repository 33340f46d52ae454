"""One thread that asks the target, with whatever is waiting in as few passes as possible.

While the model works on one pass, requests queue; the next pass takes up to ``batch_size`` of their records that fit
together (same shape), across requests. Targets of ours pad every pass to one size, so company changes no bit. Where a
joint pass fails, its requests are asked one by one, so that none fails for another.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dosimeter.core.errors import DosimeterError, TargetError
from dosimeter.core.records import check_answers
from dosimeter.core.target import Target
from dosimeter.server.refusals import Refusal, broken, invalid, unavailable

logger = logging.getLogger(__name__)

_MOST_WAITING_BYTES = 512 * 2**20
_MOST_SHAPES_KNOWN = 4096
Signature = tuple[Any, ...]


class _Job:
    """One request: its records, and their answers as they come."""

    def __init__(self, records: Sequence[Any], future: asyncio.Future[Any], nbytes: int) -> None:
        self.records, self.future, self.nbytes = records, future, nbytes
        self.answers: list[Any] = [None] * len(records)
        self.left = len(records)
        self.failure: Refusal | None = None


class Batcher:
    """Asks ``target`` from a thread of its own.

    Args:
        most_waiting: records that may wait; beyond it requests are refused.
        wait_seconds: how long a pass that is not full waits for company.
        observe: told about every pass: records in it, and seconds it took.
    """

    def __init__(
        self,
        target: Target,
        *,
        most_waiting: int,
        wait_seconds: float = 0.0,
        observe: Callable[[int, float], None] = lambda records, seconds: None,
    ) -> None:
        self._target = target
        self._most_waiting, self._wait_seconds, self._observe = most_waiting, wait_seconds, observe
        self._lines: OrderedDict[Signature, deque[tuple[_Job, int]]] = OrderedDict()
        self._changed = threading.Condition()
        self._closing = False
        self._width: int | None = None
        self._answered_shapes: set[Signature] = set()
        self.waiting = 0
        self._waiting_bytes = 0
        # A daemon, so that the second signal to stop need not wait for the model.
        self._thread = threading.Thread(target=self._work, name="dosimeter model", daemon=True)
        self._thread.start()

    def require_room(self, records: int) -> None:
        """Raise a 503 refusal if ``records`` more cannot wait now."""
        if self.waiting and self.waiting + records > self._most_waiting:
            raise unavailable("the service is busy; try again in a moment.")
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            raise unavailable("the service is busy; try again in a moment.")

    async def ask(self, records: Sequence[Any]) -> Any:
        """Answers to ``records``, in order.

        Raises:
            Refusal: the target failed, or cannot take records of that shape.
        """
        loop = asyncio.get_running_loop()
        nbytes = sum(_size(record) for record in records)
        job = _Job(records, loop.create_future(), nbytes)
        with self._changed:
            if self._closing:
                raise unavailable("the service is stopping.", code="stopping")
            self.waiting += len(records)
            self._waiting_bytes += nbytes
            for index, record in enumerate(records):
                self._lines.setdefault(signature(record), deque()).append((job, index))
            self._changed.notify()
        return await job.future

    def close(self, timeout_seconds: float) -> None:
        """Answer what is waiting, then end the thread, which is waited for that long. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.perf_counter()
            self._answer(batch)
            self._observe(len(batch), time.perf_counter() - started)
            done = list({id(job): job for job, _ in batch if job.left <= 0}.values())
            with self._changed:
                self.waiting -= len(batch)
                self._waiting_bytes -= sum(job.nbytes for job in done)
            self._finish(done)

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Records of one shape, at most a full pass of them; empty once closed and nothing waits."""
        with self._changed:
            while not self._lines:
                if self._closing:
                    return []
                self._changed.wait()
            shape, line = next(iter(self._lines.items()))
            size = self._target.batch_size
            if self._wait_seconds and len(line) < size and not self._closing:
                self._changed.wait_for(lambda: len(line) >= size or self._closing, self._wait_seconds)
            batch = [line.popleft() for _ in range(min(size, len(line)))]
            if line:
                self._lines.move_to_end(shape)
            else:
                del self._lines[shape]
            return batch

    def _answer(self, batch: list[tuple[_Job, int]]) -> None:
        """Write answers or failures into the jobs of ``batch``."""
        jobs = list({id(job): job for job, _ in batch}.values())
        try:
            rows = self._rows(batch)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].failure = self._refusal(error, batch)
                jobs[0].left -= len(batch)
            else:
                for job in jobs:
                    self._answer([item for item in batch if item[0] is job])
            return
        for (job, index), row in zip(batch, rows):
            job.answers[index] = row
            job.left -= 1

    def _rows(self, batch: list[tuple[_Job, int]]) -> Any:
        records = [job.records[index] for job, index in batch]
        inputs: Any = records if isinstance(records[0], str) else np.stack(records)
        rows = check_answers(
            self._target.name, self._target.returns, self._target.answer(inputs), len(records), self._width
        )
        if self._target.returns in ("scores", "embedding"):
            self._width = np.shape(rows)[1]
        if len(self._answered_shapes) < _MOST_SHAPES_KNOWN:
            self._answered_shapes.add(signature(records[0]))
        return rows

    def _refusal(self, error: Exception, batch: list[tuple[_Job, int]]) -> Refusal:
        """What the client is told; the log is told the place but not the message, which may hold content."""
        job, index = batch[0]
        shape = signature(job.records[index])
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        frame = traceback.extract_tb(first.__traceback__)[-1]
        what = f"{type(first).__name__} at {frame.filename}:{frame.lineno}"
        logger.warning("%s failed on %d records of shape %s: %s", self._target.name, len(batch), shape, what)
        if isinstance(error, TargetError) and shape and shape not in self._answered_shapes:
            return invalid(
                f"the model cannot answer records of shape {shape}; send the shape that it was made for.",
                code="invalid_shape",
            )
        if isinstance(error, DosimeterError):
            return broken(
                "the model could not answer; nothing was counted. Tell the operator of the service."
            )
        return broken("the model failed; nothing was counted. Tell the operator of the service.")

    def _finish(self, jobs: list[_Job]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.future.get_loop(), []).append(job)
        for loop, done in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle, done, self._target.returns)
            except RuntimeError:  # the loop has ended; nobody waits any more
                continue


def _settle(jobs: list[_Job], returns: str) -> None:
    """Runs on the loop."""
    for job in jobs:
        if job.future.done():
            continue
        if job.failure is not None:
            job.future.set_exception(job.failure)
        elif returns == "text":
            job.future.set_result(job.answers)
        else:
            job.future.set_result(np.stack(job.answers))


def signature(record: Any) -> Signature:
    """What two records must share to be answered in one pass: the shape of arrays, nothing for texts."""
    return record.shape if isinstance(record, np.ndarray) else ()


def _size(record: Any) -> int:
    return int(record.nbytes) if isinstance(record, np.ndarray) else len(record)
