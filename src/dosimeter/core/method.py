"""Methods: immutable settings with a card, and a ``run`` that does what authors forget.

The base class checks access, seeds, counts, times and writes provenance; an author writes the algorithm. Does not own:
I/O, plotting, argument parsing, choosing data.
"""

from __future__ import annotations

import platform
import resource
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dosimeter.core.access import check_access
from dosimeter.core.card import Card
from dosimeter.core.oracle import Oracle
from dosimeter.core.problems import Problem, SettingsError, validation_problems
from dosimeter.core.record_scores import RecordScores
from dosimeter.core.records import Answers, Batch, check_answers, content_hash, take
from dosimeter.core.repetition import current_repetition
from dosimeter.core.result import Artifact, Cost, Figure, Metric, Provenance, Result, Table, Verdict
from dosimeter.core.seeding import derive_seed, rng
from dosimeter.core.target import BeforeSend, Stream, Target, closing

Generators: TypeAlias = Callable[[], Iterator[np.random.Generator]]
"""Yields one random generator per record of a batch, the same ones every time it is called."""

_VERSIONED = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "sentence-transformers", "dosimeter")


def library_versions() -> dict[str, str]:
    """Versions of Python and of what the figures depend on, where installed."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Method(BaseModel, ABC):
    """A frozen set of hyper-parameters. Unknown names and values out of range are refused when it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    card: ClassVar[Card]

    @classmethod
    def from_spec(cls, settings: dict[str, Any], folder: Path, *, trust: bool = False) -> Self:
        """The method from the settings of an audit spec; relative paths in it start at ``folder``.

        ``trust`` allows model files that can run code when loaded; methods that load models pass it on.

        Raises:
            SettingsError: settings that the method does not know or accept, all of them.
        """
        return cls.checked(settings, [])

    @classmethod
    def checked(cls, settings: dict[str, Any], problems: Sequence[Problem]) -> Self:
        """The method from settings that are built by now, where ``problems`` came up in building some of them.

        Raises:
            SettingsError: ``problems``, and what is wrong with the other settings.
        """
        found, unbuilt = list(problems), {problem.place[:1] for problem in problems}
        try:
            method = cls.model_validate(settings)
        except ValidationError as error:
            wrong = validation_problems(error, cls, settings)
            found += [problem for problem in wrong if problem.place[:1] not in unbuilt]
        if found:
            raise SettingsError(found, of=cls.card.slug)
        return method

    def hyperparameters(self) -> dict[str, Any]:
        """The settings as JSON values, for the record."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Context:
    """What a run is given beside the target.

    Attributes:
        seed: all randomness of the run derives from it.
        cache: folder for intermediate work worth keeping between runs; ``None`` keeps nothing.
        artifacts: folder for files that belong to the result; ``None`` keeps none.
        public: inputs that the attacker may use, as a batch of the target's modality; ``None`` if there are none.
    """

    seed: int = 0
    cache: Path | None = None
    artifacts: Path | None = None
    public: Batch | None = None

    def rng(self, *path: str | int) -> np.random.Generator:
        """The generator of the place named by ``path``, from the run's seed."""
        return rng(self.seed, *path)


@dataclass(frozen=True)
class Findings:
    """What the author's part of an attack hands to the base class; fields as in :class:`Result`."""

    verdict: Verdict
    summary: str
    reason: str | None = None
    metrics: list[Metric] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    records: list[RecordScores] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    candidate_queries: int = 0
    data_digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """What a run will need at most: ``queries`` of the target, ``candidate_queries`` of the attacker's side, ``seconds``."""

    queries: int
    candidate_queries: int = 0
    seconds: float | None = None


class Attack(Method):
    """A way to learn something from a target's answers."""

    def run(self, target: Target | Oracle, *, context: Context | None = None) -> Result:
        """Attack ``target`` and return what was found.

        Raises:
            CapabilityError: the target gives less than the card's needs; nothing was asked.
            BudgetExceeded, TargetError, InputError: as named.
        """
        oracle = target if isinstance(target, Oracle) else Oracle(target)
        context = context or Context()
        card = self.card
        check_access(
            card.slug,
            card.needs,
            target=oracle.name,
            modality=oracle.modality,
            returns=oracle.returns,
            grants=oracle.grants,
        )
        asked, started = oracle.queries, time.perf_counter()
        found = self.attack(oracle, context)
        queries = oracle.queries - asked
        return Result(
            method=card.slug,
            title=card.title,
            verdict=found.verdict,
            summary=found.summary,
            reason=found.reason,
            metrics=found.metrics,
            tables=found.tables,
            figures=found.figures,
            artifacts=found.artifacts,
            records=found.records,
            threat_model=card.threat_model,
            limits=found.limits,
            cost=Cost(
                queries=queries,
                candidate_queries=found.candidate_queries,
                money=queries * oracle.price_per_call,
                seconds=round(time.perf_counter() - started, 3),
                peak_memory_bytes=peak_memory_bytes(),
            ),
            provenance=Provenance(
                seed=context.seed,
                hyperparameters=self.hyperparameters(),
                target=oracle.name,
                target_fingerprint=oracle.fingerprint,
                data_digests=found.data_digests,
                versions=library_versions(),
            ),
        )

    @abstractmethod
    def attack(self, oracle: Oracle, context: Context) -> Findings:
        """The algorithm: ask the oracle, judge the answers. All randomness comes from ``context``."""

    @abstractmethod
    def estimate(self, target: Target, context: Context) -> Estimate:
        """An upper bound on what :meth:`attack` needs, without asking anything."""


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Defense(Method):
    """A change to what goes into a target or comes out of it; without either of the two methods below, no change.

    Whatever is random in a defence is drawn once per input, from the seed and the input's content: asking again does
    not average it away, and a defended service answers alike in this process and behind HTTP. A defence that draws
    anew whenever an input is asked says so with :attr:`draws_per_query`.
    """

    @property
    def draws_per_query(self) -> bool:
        """Whether each answer to one input is drawn anew, from the seed, the input and how often it was asked before."""
        return False

    def wrap(self, target: Target, *, seed: int = 0) -> Target:
        """``target`` behind this defence."""
        check_access(
            self.card.slug,
            self.card.needs,
            target=target.name,
            modality=target.modality,
            returns=target.returns,
            grants=target.grants,
        )
        return DefendedTarget(target, self, seed)

    def protect_inputs(self, batch: Batch, generators: Generators) -> Batch:
        """What the target sees instead of ``batch``; ``generators()`` yields one generator per record."""
        return batch

    def protect_answers(self, answers: Answers, batch: Batch, generators: Generators) -> Answers:
        """What the caller sees instead of ``answers``, which are valid answers of the target's kind.

        ``batch`` is what the caller sent, one record per answer; ``generators()`` yields one generator per record.
        """
        return answers


def wrap_all(target: Target, defenses: Sequence[Defense], *, seed: int = 0) -> Target:
    """``target`` behind all of ``defenses``; itself if there are none.

    They change answers in their order, the first one first, and inputs in the reverse order: the first stands next to
    the target. Each draws its own randomness from ``seed``; one alone does as ``wrap`` does.

    Raises:
        CapabilityError: one that does not fit the target.
    """
    for number, defense in enumerate(defenses):
        target = defense.wrap(target, seed=derive_seed(seed, "defence", number) if number else seed)
    return target


class DefendedTarget(Target):
    """A target behind a defence; answers as the target does, with its own fingerprint.

    Where a defence draws per query, an oracle's ``repeat`` is the number of the draw, so that an interrupted run
    resumes to the same answers. Whoever asks without an oracle, such as a server, gets the next draw each time; that
    count is kept in memory (about 200 bytes per distinct input) and starts again with the process.
    """

    def __init__(self, target: Target, defense: Defense, seed: int) -> None:
        super().__init__(
            name=f"{target.name} + {defense.card.slug}",
            modality=target.modality,
            returns=target.returns,
            fingerprint=content_hash(target.fingerprint, defense.card.slug, defense.hyperparameters(), seed),
        )
        self.batch_size = target.batch_size
        self.price_per_call = target.price_per_call
        self._target, self._defense, self._seed = target, defense, seed
        self._asked: dict[str, int] = {}
        self._counting = threading.Lock()

    @property
    def draws_per_query(self) -> bool:
        """Whether this defence, or one between it and the model, draws anew whenever an input is asked."""
        return self._defense.draws_per_query or getattr(self._target, "draws_per_query", False)

    def answer(self, batch: Batch) -> Answers:
        numbers = self._numbers(batch)
        return self._protected(self._target.answer(self._harmless(batch, numbers)), batch, numbers)

    def stream(self, batch: Batch, *, before_send: BeforeSend) -> Stream:
        numbers = self._numbers(batch)
        harmless = self._harmless(batch, numbers)
        with closing(self._target.stream(harmless, before_send=before_send)) as stream:
            for indices, answers in stream:
                part = None if numbers is None else [numbers[int(index)] for index in indices]
                yield indices, self._protected(answers, take(batch, indices), part)

    def _numbers(self, batch: Batch) -> list[int] | None:
        """How often each record was asked before; ``None`` if the defence does not care."""
        if not self._defense.draws_per_query:
            return None
        repetition = current_repetition()
        if repetition is not None:
            return [repetition] * len(batch)
        numbers = []
        with self._counting:
            for record in batch:
                key = content_hash(record)
                numbers.append(self._asked.get(key, 0))
                self._asked[key] = numbers[-1] + 1
        return numbers

    def _harmless(self, batch: Batch, numbers: list[int] | None) -> Batch:
        return self._defense.protect_inputs(batch, self._generators(batch, numbers))

    def _protected(self, answers: Any, batch: Batch, numbers: list[int] | None) -> Answers:
        valid = check_answers(self._target.name, self.returns, answers, len(batch), None)
        return self._defense.protect_answers(valid, batch, self._generators(batch, numbers, "answers"))

    def _generators(self, batch: Batch, numbers: list[int] | None, *path: str) -> Generators:
        slug = self._defense.card.slug
        if numbers is None:
            return lambda: (rng(self._seed, slug, content_hash(record), *path) for record in batch)
        return lambda: (
            rng(self._seed, slug, content_hash(record), number, *path)
            for record, number in zip(batch, numbers)
        )

    def close(self) -> None:
        self._target.close()
