"""Retries of one question, known by their ``Idempotency-Key``: charged once, and answered together while both wait.

Kept in memory for ten minutes, under a secret of this process, so that nothing that outlives the request could confirm
what was in it. After a restart a retry is charged again. The same key with another body is refused. Behind a defence that draws
anew for every query, only a retry that comes while the first attempt still waits is free: it gets the same draw.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dosimeter.server.refusals import invalid

_MOST_QUESTIONS = 100_000
_KEPT_SECONDS = 600.0


@dataclass(eq=False)
class Question:
    """One question of one key: the digest of its body, whether it was paid for, and its answer in the making."""

    body: bytes
    at: float
    charged: bool = False
    running: asyncio.Future[Any] | None = None


class Retries:
    """Questions by API key and idempotency key. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = os.urandom(32)
        self._clock = clock
        self._questions: OrderedDict[bytes, Question] = OrderedDict()

    def question(self, key: str, path: str, idempotency_key: str | None, body: bytes) -> Question:
        """The question asked before under the same keys, or a new one; without an idempotency key always a new one.

        Raises:
            Refusal: 422 if the key came with another body before.
        """
        now = self._clock()
        if idempotency_key is None:
            return Question(b"", now)
        self._forget(now)
        name = self._digest(f"{key}\0{path}\0{idempotency_key}".encode("utf-8", "replace"))
        digest = self._digest(body)
        found = self._questions.get(name)
        if found is None:
            found = self._questions[name] = Question(digest, now)
        elif found.body != digest:
            raise invalid(
                "this Idempotency-Key came with another body before; give every question a key of its own.",
                code="idempotency_key_reused",
            )
        return found

    def _forget(self, now: float) -> None:
        while self._questions:
            oldest = next(iter(self._questions.values()))
            if now - oldest.at < _KEPT_SECONDS and len(self._questions) < _MOST_QUESTIONS:
                return
            self._questions.popitem(last=False)

    def _digest(self, value: bytes) -> bytes:
        return hashlib.blake2b(value, digest_size=16, key=self._secret).digest()
