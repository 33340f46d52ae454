"""Progress as events. Library code reports; whoever displays (``cli``, a notebook) listens.

Every report is also the place where a run notices that its time limit has passed (``limits``), so long work can be
stopped between two steps and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from dosimeter.core.limits import check_time


@dataclass(frozen=True)
class ProgressEvent:
    """State of one task: ``done`` of ``total`` steps (``None`` if unknown), and what is ``left`` of a budget."""

    task: str
    done: float
    total: float | None
    left: str | None = None
    finished: bool = False


class Listener(Protocol):
    """Anything that can be told about progress. Must return quickly and never raise."""

    def __call__(self, event: ProgressEvent) -> None: ...


_listener: ContextVar[Listener | None] = ContextVar("dosimeter_progress_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every progress event raised inside the block to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def emit(event: ProgressEvent) -> None:
    """Tell the listener, if there is one; for those who pass on what another process reported."""
    listener = _listener.get()
    if listener is not None:
        listener(event)


class Track:
    """One running task; call :meth:`advance` as work gets done."""

    def __init__(self, task: str, total: float | None) -> None:
        self.task, self.total, self.done = task, total, 0.0

    def advance(self, steps: float = 1, *, left: str | None = None) -> None:
        """Report ``steps`` more as done. Raises ``BudgetExceeded`` once the time limit has passed."""
        self.done += steps
        self._send(left)
        check_time()

    def _send(self, left: str | None = None, *, finished: bool = False) -> None:
        emit(ProgressEvent(self.task, self.done, self.total, left, finished))


@contextmanager
def track(task: str, total: float | None = None) -> Iterator[Track]:
    """Report ``task`` as running for the length of the block."""
    bar = Track(task, total)
    bar._send()
    try:
        yield bar
    finally:
        bar._send(finished=True)
