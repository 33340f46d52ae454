"""The only handle an attack has on a target.

Layers, outside in: attacker, cache, ledger, transport, defences, target. Does not own: the meaning of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from filelock import FileLock

from dosimeter.core.access import Grants, Modality, Returns
from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, CapabilityError
from dosimeter.core.ledger import Ledger
from dosimeter.core.progress import track
from dosimeter.core.records import Answers, Batch, check_answers, check_batch, content_hash, take
from dosimeter.core.target import Target


@dataclass(frozen=True)
class Determinism:
    """How often a target disagreed with itself on inputs asked twice: ``disagreeing`` of ``n``."""

    n: int
    disagreeing: int

    @property
    def rate(self) -> float:
        return self.disagreeing / self.n


class Oracle:
    """Asks a target within a budget, never twice for the same thing.

    Args:
        target: who answers.
        ledger: shared bill with the hard cap; a private one without cap if not given.
        cache: shared answers; private and in memory if not given.
        scope: who asks, written into the ledger.
        max_queries: cap on the distinct queries of this oracle alone, cached ones included.

    Calling the oracle with a batch returns one answer per record, in order. Repeated records, in one call or over
    calls, cost one query. ``repeat=k`` asks for the k-th independent answer to the same record.
    """

    def __init__(
        self,
        target: Target,
        *,
        ledger: Ledger | None = None,
        cache: AnswerCache | None = None,
        scope: str = "",
        max_queries: int | None = None,
    ) -> None:
        self._target = target
        self._ledger = ledger or Ledger()
        self._cache = cache or AnswerCache()
        self._scope = scope
        self._max_queries = max_queries
        self._asked: set[str] = set()
        self._width: int | None = None

    @property
    def name(self) -> str:
        return self._target.name

    @property
    def modality(self) -> Modality:
        return self._target.modality

    @property
    def returns(self) -> Returns:
        return self._target.returns

    @property
    def grants(self) -> Grants:
        return self._target.grants

    @property
    def fingerprint(self) -> str:
        return self._target.fingerprint

    @property
    def price_per_call(self) -> float:
        return self._target.price_per_call

    @property
    def queries(self) -> int:
        """Distinct queries this oracle needed so far, whether paid now or answered from the cache."""
        return len(self._asked)

    @property
    def remaining(self) -> int | None:
        """Distinct queries still allowed by the tighter of both caps; ``None`` if there is none."""
        caps = [self._ledger.remaining]
        if self._max_queries is not None:
            caps.append(max(0, self._max_queries - self.queries))
        known = [cap for cap in caps if cap is not None]
        return min(known) if known else None

    def __call__(self, batch: Batch, *, repeat: int = 0) -> Answers:
        """Answers to ``batch``.

        Raises:
            InputError: the batch is not of the target's modality, has NaN or values out of range.
            BudgetExceeded: the new queries do not fit; nothing was sent.
            TargetError: the target failed or answered nonsense.
        """
        batch = check_batch(self.modality, batch, what=f"input of target '{self.name}'")
        if len(batch) == 0:
            return [] if self.returns == "text" else np.empty((0,))
        keys = [content_hash(self.fingerprint, record, repeat) for record in batch]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        unique = sorted(first, key=first.__getitem__)
        self._require(unique)
        known = self._cache.get(unique)
        missing = [key for key in unique if key not in known]
        if missing:
            with self._alone():
                known |= self._cache.get(missing)
                missing = [key for key in missing if key not in known]
                self._ledger.require(len(missing))
                known |= self._ask(missing, take(batch, [first[key] for key in missing]))
        self._asked.update(unique)
        answers: Any = [known[key] for key in keys]
        if self.returns == "text":
            return list(answers)
        return check_answers(self.name, self.returns, np.stack(answers), len(batch), self._width)

    def labels(self, batch: Batch) -> np.ndarray:
        """(n,) int64 predicted labels; the arg-max where the target returns scores."""
        answers = np.asarray(self(batch))
        if self.returns == "scores":
            return answers.argmax(axis=1) if len(answers) else np.empty(0, dtype=np.int64)
        if self.returns != "label":
            raise CapabilityError(
                f"target '{self.name}' returns {self.returns}; labels need a target that returns label or scores."
            )
        return answers

    def determinism(self, batch: Batch) -> Determinism:
        """Ask every record of ``batch`` a second time, past the cache, and count the answers that differ.

        Labels and texts must be equal; for numeric answers the larger of 1e-4 absolute and relative difference is allowed.
        """
        first, second = self(batch), self(batch, repeat=1)
        if isinstance(first, list) or first.dtype.kind in "iu":
            differs = [not np.array_equal(a, b) for a, b in zip(first, second)]
        else:
            differs = [not np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(first, second)]
        return Determinism(n=len(differs), disagreeing=sum(differs))

    def _require(self, keys: list[str]) -> None:
        if self._max_queries is None:
            return
        new = sum(key not in self._asked for key in keys)
        if self.queries + new > self._max_queries:
            raise BudgetExceeded("queries", used=self.queries, limit=self._max_queries, wanted=new)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process asks at a time, so that two never pay for the same record."""
        if self._cache.path is None:
            yield
            return
        with FileLock(self._cache.path.with_suffix(".lock")):
            yield

    def _ask(self, keys: list[str], batch: Batch) -> dict[str, Any]:
        got: dict[str, Any] = {}
        if not keys:
            return got
        price = self._target.price_per_call
        reserve = partial(
            self._ledger.reserve, target=self.fingerprint, scope=self._scope, price_per_call=price
        )
        with track(f"asking {self.name}", len(keys)) as bar:
            for indices, answers in self._target.stream(batch, before_send=reserve):
                checked = check_answers(self.name, self.returns, answers, len(indices), self._width)
                if isinstance(checked, np.ndarray) and checked.ndim == 2:
                    self._width = checked.shape[1]
                part = [keys[int(index)] for index in indices]
                self._cache.put(part, checked)
                self._ledger.settle(
                    len(part), target=self.fingerprint, scope=self._scope, price_per_call=price
                )
                got.update(zip(part, checked))
                left = self.remaining
                bar.advance(len(part), left=None if left is None else f"{left} queries left")
        return got
