"""The bill and the answers of a study for cells on other machines.

Nodes of a cluster share no disk, and SQLite files cannot be shared over a network. So one Ray actor, the *desk*, runs
on the machine of the state folder and keeps both files there; what cells hold are proxies that ask it. The promises are
those of a local study, kept by the same code in the same files:

- queries are reserved in the ledger before they leave, under the cap of the study;
- answers are stored as they arrive, and looked up before anything is asked;
- only one of all who share the answers asks at a time. The desk holds the file lock in the name of one worker, also
  against other studies in the same state folder, and lets go of it when that worker dies;
- a desk that ends takes the study with it. Nobody can reserve a query any more, so nothing can leave unnoticed, and the
  same command resumes the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from dosimeter.core.cache import AnswerCache
from dosimeter.core.ledger import Ledger
from dosimeter.core.limits import check_time
from dosimeter.study.home import Home
from dosimeter.study.ray_cluster import ClusterError

_LOCK_CHECK_SECONDS = 1.0
_LOCK_RETRY_SECONDS = 0.005


class Raised:
    """An error as a value: Ray would wrap a raised one into its own, traceback and all."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Desk:
    """Keeps bill, answers and their lock, and passes on what workers say; a Ray actor with one event loop."""

    def __init__(self, home: Home, run: str, max_queries: int | None) -> None:
        self._home, self._run, self._max_queries = home, run, max_queries
        self._books: dict[str, Any] = {}
        self._lock = FileLock(AnswerCache.lock_file(home.answers))
        self._holder: str | None = None
        self._gone: set[str] = set()
        self._messages: list[Any] = []
        self._some = asyncio.Event()
        self._changed = asyncio.Event()

    async def ask(self, book: str, name: str, *arguments: Any, **options: Any) -> Any:
        """What ``name`` of the ``ledger`` or the ``answers`` is or gives; :class:`Raised` if it raises."""
        try:
            found = getattr(self._opened(book), name)
            return found(*arguments, **options) if callable(found) else found
        except Exception as error:
            return Raised(error)

    def _opened(self, book: str) -> Any:
        # On first use: a file that cannot be opened is an error of each cell that needs it, as it is without Ray.
        if book not in self._books:
            self._books[book] = (
                AnswerCache(self._home.answers)
                if book == "answers"
                else Ledger(self._home.ledger(self._run), max_queries=self._max_queries)
            )
        return self._books[book]

    async def acquire(self, worker: str, patience: float, keys: Sequence[str] = ()) -> Any:
        """The stored answers among ``keys`` if ``worker`` may ask the target now; ``None`` if it may not after
        ``patience`` seconds. They come with the lock because everybody looks them up right after.
        """
        if not await self._acquired(worker, patience):
            return None
        found = await self.ask("answers", "get", keys)
        if isinstance(found, Raised):
            await self.release(worker)
        return found

    async def _acquired(self, worker: str, patience: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while worker not in self._gone:
            if self._holder is None and self._lock_file():
                self._holder = worker
                return True
            left = deadline - loop.time()
            if left <= 0:
                return False
            # Only the release of a worker of this study is heard of; other studies that hold the file say nothing.
            wait = left if self._holder is not None else min(left, _LOCK_RETRY_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)
        return False

    def _lock_file(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    async def release(self, worker: str) -> None:
        """``worker`` is done asking."""
        if self._holder == worker:
            self._lock.release()
            self._holder = None
            self._wake()

    async def forget(self, worker: str) -> None:
        """``worker`` is dead: it asks no more, nor does what it sent before and arrives late."""
        self._gone.add(worker)
        await self.release(worker)
        self._wake()

    def _wake(self) -> None:
        """Whoever waits for the lock looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def tell(self, message: Any) -> None:
        """Something for the driver: progress, or a line for its log."""
        self._messages.append(message)
        self._some.set()

    async def told(self) -> list[Any]:
        """What workers told since the last time; waits until there is something."""
        await self._some.wait()
        return await self.told_by_now()

    async def told_by_now(self) -> list[Any]:
        """As :meth:`told`, without waiting. Also how one finds out whether the desk is there."""
        messages, self._messages = self._messages, []
        self._some.clear()
        return messages


def answered(reference: Any) -> Any:
    """What the desk answers to a call, or the error that it met.

    Raises:
        ClusterError: the desk is gone.
    """
    import ray

    try:
        answer = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise ClusterError(
            "the Ray actor that keeps answers and bill has ended, so nothing may be asked any more. Start the same "
            "command again to go on; what was answered and finished is kept."
        ) from error
    if isinstance(answer, Raised):
        raise answer.error
    return answer


class Line:
    """From one worker to the desk: calls that wait for what they return, and calls that are waited for together.

    The desk hears the calls of one worker in the order in which they were made.
    """

    def __init__(self, desk: Any, worker: str) -> None:
        self.desk, self.worker = desk, worker
        self._open: list[Any] = []

    def ask(self, book: str, name: str, *arguments: Any, **options: Any) -> Any:
        """What ``name`` of the ``ledger`` or the ``answers`` is or gives."""
        return answered(self.desk.ask.remote(book, name, *arguments, **options))

    def send(self, method: str, *arguments: Any, **options: Any) -> None:
        """Call ``method`` of the desk; :meth:`wait` hears whether it failed."""
        self._open.append(getattr(self.desk, method).remote(*arguments, **options))

    def wait(self) -> None:
        """Return when everything that was sent is done, or raise what went wrong first."""
        sent, self._open = self._open, []
        for reference in sent:
            answered(reference)


class RemoteLedger:
    """Stands for the :class:`core.ledger.Ledger` of the desk."""

    def __init__(self, line: Line, max_queries: int | None) -> None:
        self._line, self.max_queries = line, max_queries
        line.ask("ledger", "used")  # an unusable file is found before anything else

    @property
    def remaining(self) -> int | None:
        """Queries that may still be reserved; ``None`` without a cap."""
        if self.max_queries is None:
            return None
        left: int = self._line.ask("ledger", "remaining")
        return left

    def require(self, queries: int) -> None:
        """Raise :class:`BudgetExceeded` unless ``queries`` more fit under the cap."""
        if self.max_queries is not None:
            self._line.ask("ledger", "require", queries)

    def reserve(self, queries: int, *, target: str, scope: str = "", price_per_call: float = 0.0) -> None:
        """Count ``queries`` as spent, or raise :class:`BudgetExceeded` and count nothing."""
        self._line.ask(
            "ledger", "reserve", queries, target=target, scope=scope, price_per_call=price_per_call
        )

    def settle(self, queries: int, *, target: str, scope: str = "", price_per_call: float = 0.0) -> None:
        """Note that the answers to ``queries`` reserved queries are stored; heard of when the lock is given back."""
        self._line.send(
            "ask", "ledger", "settle", queries, target=target, scope=scope, price_per_call=price_per_call
        )


class RemoteAnswers:
    """Stands for the :class:`core.cache.AnswerCache` of the desk."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._missing: list[str] = []
        self._came_with_lock: dict[str, Any] | None = None
        self.get([])

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The stored answers among ``keys``."""
        found, self._came_with_lock = self._came_with_lock, None
        if found is None or list(keys) != self._missing:
            found = self._line.ask("answers", "get", keys)
        self._missing = [key for key in keys if key not in found]
        return found

    def put(self, keys: Sequence[str], answers: Sequence[Any] | np.ndarray) -> None:
        """Store ``answers`` under ``keys``; a key that is there keeps its first answer.

        A failure is heard of when the lock is given back, before the answers reach who asked.
        """
        self._line.send("ask", "answers", "put", keys, answers)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one of all who share the answers asks at a time.

        Raises:
            BudgetExceeded: the time limit passed while others were asking.
        """
        line = self._line
        while True:
            found = answered(line.desk.acquire.remote(line.worker, _LOCK_CHECK_SECONDS, self._missing))
            if found is not None:
                break
            check_time()
        self._came_with_lock = found
        try:
            yield
        finally:
            self._came_with_lock = None
            line.send("release", line.worker)
            line.wait()
