"""Which of several independent answers to one input is being asked for, for targets whose answers are random.

An oracle says it around its call; a target in the same thread may read it. Does not own: counting, caching (``oracle``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NUMBER: ContextVar[int | None] = ContextVar("repetition", default=None)


@contextmanager
def repetition(number: int) -> Iterator[None]:
    """Targets asked inside give their ``number``-th answer, counted from 0."""
    token = _NUMBER.set(number)
    try:
        yield
    finally:
        _NUMBER.reset(token)


def current_repetition() -> int | None:
    """The number that the oracle asking now wants; ``None`` where no oracle asks."""
    return _NUMBER.get()
