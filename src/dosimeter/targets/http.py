"""Any JSON service as a target: many requests in flight, each paid for before it leaves.

The requests run on an event loop in the background; the thread that consumes :meth:`HttpTarget.stream` approves each of
them with ``before_send`` and gets the answers as they arrive. A slow consumer thus slows the sending.
"""

from __future__ import annotations

import asyncio
import json
import queue
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dosimeter.core.errors import TargetError
from dosimeter.core.limits import check_time
from dosimeter.core.records import Batch, concatenate, content_hash, take
from dosimeter.core.target import BeforeSend, Target
from dosimeter.targets.background_loop import BackgroundLoop
from dosimeter.targets.http_client import Reply, Secrets, ServiceClient, read_secrets
from dosimeter.targets.http_limit import Stopped
from dosimeter.targets.http_payload import (
    decode_answers,
    parse_path,
    read_path,
    request_body,
    takes_one_record,
)
from dosimeter.targets.spec import HttpSpec

_TIME_CHECK_SECONDS = 0.5


class HttpTarget(Target):
    """A service asked over HTTP.

    Identity: URL, request template, response path, encoding, classes and version; never headers. Every request carries
    an ``Idempotency-Key`` made of its body and of how often this target got an answer to that body before: all attempts
    at one question share a key, also after a crash, and asking once more is a new question.
    """

    def __init__(self, spec: HttpSpec) -> None:
        super().__init__(
            name=spec.name or str(urlsplit(spec.url).hostname),
            modality=spec.modality,
            returns=spec.returns,
            fingerprint=content_hash("http", spec.model_dump(mode="json", include=_IDENTITY)),
        )
        self.spec = spec
        self.batch_size = spec.records_per_request
        self.price_per_call = spec.price_per_call
        self._path = parse_path(spec.response)
        self._one_record = takes_one_record(spec.request)
        self._answered: Counter[str] = Counter()
        self._shape: tuple[int, ...] | None = None
        self._connection: tuple[BackgroundLoop, ServiceClient] | None = None

    def answer(self, batch: Batch) -> Any:
        """Answers to ``batch``, in order; see :meth:`stream`."""
        answers: list[Any] = [None] * len(batch)
        for indices, part in self.stream(batch, before_send=lambda n: None):
            for index, answer in zip(indices, part):
                answers[index] = answer
        return answers if self.returns == "text" else np.stack(answers)

    def stream(self, batch: Batch, *, before_send: BeforeSend) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield (indices, answers) as requests are answered, each index once.

        ``before_send(n)`` is called from the consuming thread right before the first attempt at a request of ``n``
        records. If it raises, or a request fails for good, nothing more is sent, what is in flight is waited for and
        yielded, and then the error is raised. Closing the iterator cancels what is in flight.

        Raises:
            InputError: an environment variable named by the spec is not set; nothing was sent.
            TargetError: the service failed, or answered what cannot be read.
            BudgetExceeded: the time limit of the run passed.
        """
        if len(batch) == 0:
            return
        secrets = read_secrets(self.spec)
        loop, client = self._connected()
        run = _Run(self, client, batch, secrets)
        done = loop.start(run.drive())
        left = len(batch)
        error: Exception | None = None
        try:
            while events := run.next_events():
                for event in events:
                    if isinstance(event, _Failed):
                        error = error or event.error
                permits = [event for event in events if isinstance(event, _Permit)]
                if permits:
                    granted = 0
                    if error is None:
                        granted, error = _pay(permits, before_send)
                    if error is not None:
                        loop.call(run.stop.set)
                    loop.call(_settle, permits, granted)
                answered = [event for event in events if isinstance(event, _Answered)]
                if answered:
                    indices = np.concatenate([event.indices for event in answered])
                    left -= len(indices)
                    yield indices, concatenate([event.answers for event in answered])
        finally:
            done.cancel()
        if error is not None:
            raise error
        if left:
            raise TargetError(f"target '{self.name}' was closed while {left} answers were outstanding.")

    def close(self) -> None:
        """Close the connections and end the background thread. The target reconnects if it is asked again."""
        if self._connection is not None:
            self._connection[0].close()
            self._connection = None

    def _connected(self) -> tuple[BackgroundLoop, ServiceClient]:
        if self._connection is None:
            loop, client = BackgroundLoop(f"dosimeter http {self.name}"), ServiceClient(self.spec)
            loop.at_close(client.aclose)
            self._connection = loop, client
        return self._connection

    async def ask(
        self,
        client: ServiceClient,
        batch: Batch,
        secrets: Secrets,
        permit: Callable[[], Awaitable[bool]],
        stop: asyncio.Event,
    ) -> Any:
        """The answers to one request's worth of records."""
        body = request_body(self.spec.request, batch, self.spec.encoding)
        question = content_hash(body)
        key = content_hash(question, self._answered[question])
        reply = await client.send(body, key, secrets, permit=permit, stop=stop)
        self._answered[question] += 1
        return self._read(reply, len(batch), secrets)

    def _read(self, reply: Reply, n: int, secrets: Secrets) -> Any:
        spec = self.spec
        try:
            document = json.loads(reply.body)
        except (ValueError, RecursionError):
            raise TargetError(
                f"service {spec.shown_url} answered with something that is not JSON ({reply.excerpt(secrets)}). "
                "Check 'url' in the spec; a page instead of data often means a wrong path or a login."
            ) from None
        try:
            found = read_path(document, self._path)
            values = [found] if self._one_record else found
            if not isinstance(values, list):
                raise TargetError("expected a list with one answer per record, but got one value")
            if len(values) != n:
                raise TargetError(f"expected {n} answers, one per record, but got {len(values)}")
            answers = decode_answers(values, spec.returns, spec.classes, spec.dtype)
            if isinstance(answers, np.ndarray):
                self._shape = self._shape or answers.shape[1:]
                if answers.shape[1:] != self._shape:
                    raise TargetError(
                        f"expected answers of shape {self._shape} as before, but got {answers.shape[1:]}"
                    )
            return answers
        except TargetError as error:
            raise TargetError(
                f"service {spec.shown_url}, response path '{spec.response}': {secrets.hide(str(error))}. "
                f"It answered {reply.excerpt(secrets)}. Check 'response' and 'returns' in the spec."
            ) from None


@dataclass(frozen=True)
class _Answered:
    indices: np.ndarray
    answers: Any


@dataclass(frozen=True)
class _Failed:
    error: Exception


@dataclass(frozen=True, eq=False)
class _Permit:
    """The wish to send ``records`` records, waiting on the loop for the consumer's word."""

    records: int
    word: asyncio.Future[bool]


def _pay(permits: list[_Permit], before_send: BeforeSend) -> tuple[int, Exception | None]:
    """How many of ``permits``, from the first, may be sent, and the refusal of the next one if there was any."""
    try:
        before_send(sum(permit.records for permit in permits))
        return len(permits), None
    except Exception as refusal:
        if len(permits) == 1:
            return 0, refusal
    for granted, permit in enumerate(permits):
        try:
            before_send(permit.records)
        except Exception as refusal:
            return granted, refusal
    return len(permits), None


def _settle(permits: list[_Permit], granted: int) -> None:
    """Runs on the loop: the first ``granted`` may be sent, the others not."""
    for number, permit in enumerate(permits):
        if not permit.word.done():
            permit.word.set_result(number < granted)


_Event = _Answered | _Failed | _Permit


class _Run:
    """One stream: workers on the loop share the requests that are left and report to the consumer by events."""

    def __init__(self, target: HttpTarget, client: ServiceClient, batch: Batch, secrets: Secrets) -> None:
        self.stop = asyncio.Event()
        self._target, self._client, self._batch, self._secrets = target, client, batch, secrets
        size = target.batch_size
        self._starts = range(0, len(batch), size)
        self._left = iter(self._starts)
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._ended = False

    def next_events(self) -> list[_Event]:
        """Called by the consumer: what happened since the last call, at least one event; empty after the last.

        Raises:
            BudgetExceeded: the run's time is over.
        """
        events: list[_Event] = []
        while not self._ended:
            try:
                event = self._events.get(block=not events, timeout=_TIME_CHECK_SECONDS)
            except queue.Empty:
                if events:
                    break
                check_time()
                continue
            if event is None:
                self._ended = True
            else:
                events.append(event)
        return events

    async def drive(self) -> None:
        """Runs on the loop until every request is answered, refused or failed."""
        workers = min(self._client.spec.concurrency, len(self._starts))
        try:
            await asyncio.gather(*(self._work() for _ in range(workers)))
        finally:
            self._events.put(None)

    async def _work(self) -> None:
        for start in self._left:
            indices = np.arange(start, min(start + self._target.batch_size, len(self._batch)))
            try:
                answers = await self._target.ask(
                    self._client,
                    take(self._batch, indices),
                    self._secrets,
                    partial(self._permit, len(indices)),
                    self.stop,
                )
            except Stopped:
                return
            except Exception as error:
                self.stop.set()
                self._events.put(_Failed(error))
                return
            # The wish for the next request overtakes the answer, so that sending never waits for its storage.
            asyncio.get_running_loop().call_soon(self._events.put, _Answered(indices, answers))

    async def _permit(self, records: int) -> bool:
        word: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._events.put(_Permit(records, word))
        return await word


_IDENTITY = {
    "url", "method", "request", "response", "modality", "returns", "encoding", "classes", "dtype", "version",
}  # fmt: skip
