"""One thread that asks the target, with whatever is waiting in as few passes as possible.

While the model works on one pass, requests queue; the next pass takes up to ``batch_size`` of their records that fit
together (same shape), across requests. Targets of ours pad every pass to one size, so company changes no bit. Where a
joint pass fails, its requests are asked one by one, so that none fails for another.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
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
    """Asks ``target`` from a thread of its own. Everything public belongs to one event loop.

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
        self._arrived: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lines: OrderedDict[Signature, deque[tuple[_Job, int]]] = OrderedDict()
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
        if self._closing:
            raise unavailable("the service is stopping.", code="stopping")
        crowded = self.waiting and self.waiting + records > self._most_waiting
        if crowded or self._waiting_bytes > _MOST_WAITING_BYTES:
            raise unavailable("the service is busy; try again in a moment.")

    def ask(self, records: Sequence[Any]) -> asyncio.Future[Any]:
        """The answers to ``records``, in order, when they are there.

        The future raises a ``Refusal`` if the target failed, or cannot take records of that shape.
        """
        job = _Job(records, asyncio.get_running_loop().create_future(), sum(map(_size, records)))
        self.waiting += len(records)
        self._waiting_bytes += job.nbytes
        self._arrived.put(job)
        return job.future

    def close(self, timeout_seconds: float) -> None:
        """Answer what is waiting, then end the thread, which is waited for that long. May be called twice."""
        self._closing = True
        self._arrived.put(None)
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.perf_counter()
            self._answer(batch)
            self._observe(len(batch), time.perf_counter() - started)
            done = list({id(job): job for job, _ in batch if job.left <= 0}.values())
            if done:
                self._hand_back(done)

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Records of one shape, at most a full pass of them; empty once closed and nothing waits."""
        size = self._target.batch_size
        while True:
            more = self._take_in(block=not self._lines)
            if self._lines:
                break
            if not more:
                return []
        shape, line = next(iter(self._lines.items()))
        if self._wait_seconds:
            until = time.monotonic() + self._wait_seconds
            while more and len(line) < size and (left := until - time.monotonic()) > 0:
                more = self._take_in(block=True, timeout=left)
        batch = [line.popleft() for _ in range(min(size, len(line)))]
        if line:
            self._lines.move_to_end(shape)
        else:
            del self._lines[shape]
        return batch

    def _take_in(self, *, block: bool, timeout: float | None = None) -> bool:
        """Put what has arrived into the lines, after waiting for something if ``block``; false once closed."""
        with suppress(queue.Empty):
            while True:
                job = self._arrived.get(block, timeout)
                if job is None:
                    self._arrived.put(None)  # for the next call
                    return False
                for index, record in enumerate(job.records):
                    self._lines.setdefault(signature(record), deque()).append((job, index))
                block = False
        return True

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

    def _hand_back(self, jobs: list[_Job]) -> None:
        with suppress(RuntimeError):  # the loop has ended; nobody waits any more
            jobs[0].future.get_loop().call_soon_threadsafe(self._settle, jobs)

    def _settle(self, jobs: list[_Job]) -> None:
        """Runs on the loop."""
        for job in jobs:
            self.waiting -= len(job.records)
            self._waiting_bytes -= job.nbytes
            if job.future.done():
                continue
            if job.failure is not None:
                job.future.set_exception(job.failure)
            elif self._target.returns == "text":
                job.future.set_result(job.answers)
            else:
                job.future.set_result(np.stack(job.answers))


def signature(record: Any) -> Signature:
    """What two records must share to be answered in one pass: the shape of arrays, nothing for texts."""
    return record.shape if isinstance(record, np.ndarray) else ()


def _size(record: Any) -> int:
    return int(record.nbytes) if isinstance(record, np.ndarray) else len(record)
