"""The time limit of a run, checked wherever progress is reported."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dosimeter.core.errors import BudgetExceeded

_limit: ContextVar[tuple[float, float] | None] = ContextVar("dosimeter_time_limit", default=None)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Inside the block, :func:`check_time` raises once ``seconds`` have passed. Limits do not nest: the inner one counts."""
    token = _limit.set(None if seconds is None else (time.monotonic(), seconds))
    try:
        yield
    finally:
        _limit.reset(token)


def check_time() -> None:
    """Raise :class:`BudgetExceeded` if the current time limit has passed."""
    limit = _limit.get()
    if limit is None:
        return
    started, seconds = limit
    used = time.monotonic() - started
    if used > seconds:
        raise BudgetExceeded("seconds", used=round(used, 1), limit=seconds, wanted=0)
