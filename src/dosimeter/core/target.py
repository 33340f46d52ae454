"""The thing under examination: it answers, and declares what it returns and what access it grants.

Does not own: budgets, caching, retry of whole runs (``oracle``), scoring (``attacks``).
Kinds that need a framework or a network live in ``dosimeter.targets``; the two here need neither.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np

from dosimeter.core.access import Grants, Modality, Returns
from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.records import Answers, Batch, check_answers, check_batch, content_hash, take

BeforeSend = Callable[[int], None]
Stream = Iterator[tuple[np.ndarray, Any]]


@contextmanager
def closing(stream: Stream) -> Iterator[Stream]:
    """``stream``, closed at the end of the block, so that nothing stays in flight after an error in it."""
    try:
        yield stream
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


class Target(ABC):
    """Base of every target.

    Attributes:
        name: shown to people.
        modality: kind of input (``image``, ``text``, ``table``, ``prompt``).
        returns: kind of answer.
        grants: deepest access (``query`` < ``activations`` < ``weights``).
        batch_size: most records in one call of :meth:`answer`.
        price_per_call: money per record asked, in whatever currency the user counts in.
        fingerprint: identity of the answers; two targets with one fingerprint share cached answers.
    """

    grants: Grants = "query"
    batch_size: int = 32
    price_per_call: float = 0.0

    def __init__(self, *, name: str, modality: Modality, returns: Returns, fingerprint: str) -> None:
        for what, given, known in (("modality", modality, Modality), ("returns", returns, Returns)):
            if given not in get_args(known):
                raise InputError(
                    f"expected {what} of target '{name}' to be one of {', '.join(get_args(known))}, but got {given!r}."
                )
        self.name = name
        self.modality: Modality = modality
        self.returns: Returns = returns
        self.fingerprint = fingerprint

    @abstractmethod
    def answer(self, batch: Batch) -> Any:
        """Answers to at most ``batch_size`` records, one per record, in order."""

    def stream(self, batch: Batch, *, before_send: BeforeSend) -> Stream:
        """Answer any number of records: yields (indices, answers) as they arrive, each index exactly once.

        ``before_send(n)`` is called before ``n`` records leave; it raises if they may not.
        """
        for start in range(0, len(batch), self.batch_size):
            indices = np.arange(start, min(start + self.batch_size, len(batch)))
            before_send(len(indices))
            yield indices, self.answer(take(batch, indices))

    def close(self) -> None:  # noqa: B027 - most targets hold nothing
        """Give back connections and memory. May be called twice."""

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {self.modality} -> {self.returns}, grants {self.grants})"
        )


class CallableTarget(Target):
    """Any Python callable ``f(batch) -> answers``.

    Without ``fingerprint`` every object has an identity of its own, so answers are never taken from another run's cache.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        modality: Modality,
        returns: Returns,
        name: str | None = None,
        fingerprint: str | None = None,
        batch_size: int = 32,
        price_per_call: float = 0.0,
    ) -> None:
        super().__init__(
            name=name or str(getattr(function, "__name__", "callable")),
            modality=modality,
            returns=returns,
            fingerprint=fingerprint or uuid.uuid4().hex,
        )
        if batch_size < 1:
            raise InputError(f"target '{self.name}' needs a batch_size of at least 1, but got {batch_size}.")
        self.batch_size = batch_size
        self.price_per_call = price_per_call
        self._function = function

    def answer(self, batch: Batch) -> Any:
        return self._function(batch)


class RecordedTarget(Target):
    """Answers that were collected elsewhere, looked up by the content of the input.

    Args:
        inputs: the batch that was asked.
        answers: what came back, in the same order.

    Raises:
        InputError: unequal lengths, or one input with two different answers.
    """

    def __init__(
        self, inputs: Batch, answers: Answers, *, modality: Modality, returns: Returns, name: str = "recorded"
    ) -> None:
        inputs = check_batch(modality, inputs, what="recorded inputs")
        if len(inputs) == 0 or len(inputs) != len(answers):
            raise InputError(
                f"recorded target '{name}' has {len(inputs)} inputs and {len(answers)} answers; they must be as many, and some. "
                "Correct the recording."
            )
        try:
            self.answers = check_answers(name, returns, answers, len(inputs), None)
        except TargetError as error:
            raise InputError(f"{error} Correct the recording, or 'returns'.") from error
        self.inputs = inputs
        self._row: dict[str, int] = {}
        for row, record in enumerate(inputs):
            first = self._row.setdefault(content_hash(record), row)
            if first != row and not np.array_equal(self.answers[first], self.answers[row]):
                raise InputError(
                    f"recorded target '{name}' has two different answers to one input, in rows {first} and {row} "
                    "(counted from 0). Keep one of them."
                )
        super().__init__(
            name=name,
            modality=modality,
            returns=returns,
            fingerprint=content_hash("recorded", returns, inputs, self.answers),
        )

    def answer(self, batch: Batch) -> Answers:
        rows = [self._row.get(content_hash(record)) for record in batch]
        missing = rows.count(None)
        if missing:
            raise TargetError(
                f"recorded target '{self.name}' has no answer for {missing} of {len(rows)} inputs. "
                "Export the inputs that the method asks, have them answered, and add them to the recording."
            )
        return take(self.answers, [row for row in rows if row is not None])  # type: ignore[return-value]
