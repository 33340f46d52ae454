"""The only handle an attack has on a target.

Layers, outside in: attacker, cache, ledger, transport, defences, target. Does not own: the meaning of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dosimeter.core.access import Grants, Modality, Returns
from dosimeter.core.cache import AnswerCache, AnswerKeeper
from dosimeter.core.errors import BudgetExceeded, CapabilityError, InputError, TargetError
from dosimeter.core.ledger import Ledger, QueryBill
from dosimeter.core.progress import track
from dosimeter.core.records import Answers, Batch, check_answers, check_batch, content_hash, take
from dosimeter.core.repetition import repetition
from dosimeter.core.target import Target, closing

_AGREEMENT = 1e-4


@dataclass(frozen=True)
class Determinism:
    """How often a target disagreed with itself on inputs asked twice: ``disagreeing`` of ``n``."""

    n: int
    disagreeing: int

    @property
    def rate(self) -> float:
        """Share of the inputs, from 0 (always the same answer) to 1."""
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
        ledger: QueryBill | None = None,
        cache: AnswerKeeper | None = None,
        scope: str = "",
        max_queries: int | None = None,
    ) -> None:
        if not isinstance(target, Target):
            raise InputError(
                f"expected a target, but got a {type(target).__name__}. Wrap a function of yours: "
                'CallableTarget(function, modality="image", returns="label").'
            )
        self._target = target
        self._ledger: QueryBill = Ledger() if ledger is None else ledger
        self._cache: AnswerKeeper = AnswerCache() if cache is None else cache
        self._scope = scope
        self._max_queries = max_queries
        self._asked: set[str] = set()
        self._width: int | None = None

    @property
    def name(self) -> str:
        """What people call the target."""
        return self._target.name

    @property
    def modality(self) -> Modality:
        """Kind of input the target takes."""
        return self._target.modality

    @property
    def returns(self) -> Returns:
        """Kind of answer the target gives."""
        return self._target.returns

    @property
    def grants(self) -> Grants:
        """Deepest access the target gives."""
        return self._target.grants

    @property
    def fingerprint(self) -> str:
        """Identity of the target's answers."""
        return self._target.fingerprint

    @property
    def price_per_call(self) -> float:
        """Money per record asked."""
        return self._target.price_per_call

    @property
    def queries(self) -> int:
        """Distinct queries answered so far, whether paid now or taken from the cache."""
        return len(self._asked)

    @property
    def remaining(self) -> int | None:
        """Distinct queries still allowed by the tighter of both caps; ``None`` if there is none."""
        caps = [self._ledger.remaining]
        if self._max_queries is not None:
            caps.append(max(0, self._max_queries - self.queries))
        known = [cap for cap in caps if cap is not None]
        return min(known) if known else None

    @property
    def allowance(self) -> int | None:
        """Distinct queries this oracle may need in all by the tighter of both caps, paid for already or not.

        Unlike :attr:`remaining`, the same for a run that was killed and starts again. ``None`` if there is no cap.
        """
        caps = [cap for cap in (self._ledger.max_queries, self._max_queries) if cap is not None]
        return min(caps) if caps else None

    def __call__(self, batch: Batch, *, repeat: int = 0) -> Answers:
        """Answers to ``batch``; arrays have one row per record.

        What was answered before an error is kept, and costs nothing when it is asked for again.

        Raises:
            InputError: the batch is not of the target's modality, has NaN or values out of range.
            BudgetExceeded: the new queries do not fit; nothing was sent.
            TargetError: the target failed or answered nonsense.
        """
        batch = check_batch(self.modality, batch, what=f"input of target '{self.name}'")
        if len(batch) == 0:
            return self._nothing()
        keys = [content_hash(self.fingerprint, record, repeat) for record in batch]
        first: dict[str, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        unique = list(first)
        self._require(unique)
        known = self._cache.get(unique)
        missing = [key for key in unique if key not in known]
        if missing:
            with self._cache.alone():
                known |= self._cache.get(missing)
                missing = [key for key in missing if key not in known]
                self._ledger.require(len(missing))
                self._asked.update(known)
                with repetition(repeat):
                    known |= self._ask(missing, take(batch, [first[key] for key in missing]))
        self._asked.update(unique)
        answers: Any = [known[key] for key in keys]
        return list(answers) if self.returns == "text" else self._stacked(answers)

    def labels(self, batch: Batch) -> np.ndarray:
        """(n,) int64 predicted labels; the arg-max where the target returns scores.

        Raises:
            CapabilityError: the target returns neither; nothing was asked.
        """
        if self.returns not in ("label", "scores"):
            raise CapabilityError(
                f"target '{self.name}' returns {self.returns}; labels need a target that returns label or scores."
            )
        answers = np.asarray(self(batch))
        if self.returns == "scores":
            return answers.argmax(axis=1) if len(answers) else np.empty(0, dtype=np.int64)
        return answers

    def determinism(self, batch: Batch) -> Determinism:
        """Ask every record of ``batch`` a second time, past the cache, and count the answers that differ.

        Labels, texts and images must be equal. Two answers of real numbers agree if no number moved by more than 1e-4 of
        the largest magnitude in them: what a service computes in another order may differ that much.

        Raises:
            InputError: the batch is empty.
        """
        if len(batch) == 0:
            raise InputError(
                f"whether target '{self.name}' repeats itself cannot be measured on no inputs; give some."
            )
        first, second = self(batch), self(batch, repeat=1)
        differs = [not _agree(a, b) for a, b in zip(first, second)]
        return Determinism(n=len(differs), disagreeing=sum(differs))

    def _require(self, keys: list[str]) -> None:
        if self._max_queries is None:
            return
        new = sum(key not in self._asked for key in keys)
        if self.queries + new > self._max_queries:
            raise BudgetExceeded("queries", used=self.queries, limit=self._max_queries, wanted=new)

    def _nothing(self) -> Answers:
        if self.returns == "text":
            return []
        if self.returns == "label":
            return np.empty(0, dtype=np.int64)
        if self.returns in ("scores", "embedding"):
            return np.empty((0, self._width or 0))
        return np.empty((0, 0, 0, 3), dtype=np.uint8) if self.returns == "image" else np.empty(0)

    def _stacked(self, answers: list[np.ndarray]) -> np.ndarray:
        shapes = {answer.shape for answer in answers}
        if len(shapes) > 1:
            raise TargetError(
                f"target '{self.name}' returned answers of different shapes: {' and '.join(map(str, sorted(shapes)))}."
            )
        stacked: np.ndarray = np.stack(answers)
        check_answers(self.name, self.returns, stacked, len(answers), self._width)
        self._note_width(stacked)
        return stacked

    def _note_width(self, answers: Answers) -> None:
        if self.returns in ("scores", "embedding"):
            self._width = np.shape(answers)[1]

    def _ask(self, keys: list[str], batch: Batch) -> dict[str, Any]:
        got: dict[str, Any] = {}
        if not keys:
            return got
        price = self._target.price_per_call
        reserve = partial(
            self._ledger.reserve, target=self.fingerprint, scope=self._scope, price_per_call=price
        )
        with (
            track(f"asking {self.name}", len(keys)) as bar,
            closing(self._target.stream(batch, before_send=reserve)) as stream,
        ):
            for indices, answers in stream:
                checked = check_answers(self.name, self.returns, answers, len(indices), self._width)
                self._note_width(checked)
                part = [keys[int(index)] for index in indices]
                self._cache.put(part, checked)
                self._ledger.settle(
                    len(part), target=self.fingerprint, scope=self._scope, price_per_call=price
                )
                got.update(zip(part, checked))
                self._asked.update(part)
                left = self.remaining
                bar.advance(len(part), left=None if left is None else f"{left} queries left")
        if len(got) < len(keys):
            raise TargetError(f"target '{self.name}' answered only {len(got)} of {len(keys)} inputs.")
        return got


def _agree(one: Any, other: Any) -> bool:
    if isinstance(one, str) or np.asarray(one).dtype.kind != "f":
        return np.array_equal(one, other)
    largest = max(np.abs(one).max(initial=0), np.abs(other).max(initial=0))
    return bool(np.abs(one - other).max(initial=0) <= _AGREEMENT * largest)
