"""How alike a service answers two inputs: one adapter per kind of answer.

An adapter asks the service for attacks[i] and objectives[i] and gives one number per pair. Scores of an encoder are
means of these numbers; adapters do not know which encoder a sample was made for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from dosimeter.attacks.encoder_inference.replies import parse_label, parse_score
from dosimeter.core.access import Modality, Returns
from dosimeter.core.errors import InputError
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Answers, Batch, Prompt
from dosimeter.core.target import Target

TextScorer = Callable[[list[str], list[str]], Sequence[float]]
"""(replies to attacks, replies to objectives) -> one similarity in 0..1 per pair."""


@dataclass(frozen=True)
class Comparison:
    """Similarities of n pairs of answers.

    Attributes:
        values: (n,) float64 in the adapter's bounds; 0 where dropped.
        dropped_mask: (n,) bool, pairs whose answers could not be read. Leave them out of means, and report how many.
    """

    values: np.ndarray
    dropped_mask: np.ndarray

    @property
    def dropped(self) -> int:
        """How many of the n pairs were left out."""
        return int(self.dropped_mask.sum())


@dataclass(frozen=True, kw_only=True)
class Similarity(ABC):
    """Base of the adapters: checks the pairs and the values, leaves asking and comparing to ``pair_values``.

    Attributes:
        name: shown to people.
        returns: kinds of answer it compares.
        bounds: least and greatest value.
        queries_per_sample: most calls of the service for one attack sample.
        queries_per_objective: most calls for one objective, whatever the number of samples.
    """

    name: ClassVar[str]
    returns: ClassVar[tuple[Returns, ...]]
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def queries_per_sample(self) -> int:
        """Most calls of the service for one attack sample."""
        return 1

    @property
    def queries_per_objective(self) -> int:
        """Most calls of the service for one objective, whatever the number of its samples."""
        return 1

    def compare(self, oracle: Oracle, attacks: Batch, objectives: Batch) -> Comparison:
        """Similarity of the answers to ``attacks[i]`` and ``objectives[i]`` for every i.

        Repeated objectives cost nothing: the oracle asks for each distinct record once.

        Raises:
            InputError: unequal lengths, or the target returns something else.
            TargetError, BudgetExceeded: as the oracle.
        """
        if len(attacks) != len(objectives):
            raise InputError(
                f"{self.name} pairs attacks with objectives one to one, but got {len(attacks)} and {len(objectives)}."
            )
        if oracle.returns not in self.returns:
            raise InputError(
                f"{self.name} compares {' or '.join(self.returns)}, but target '{oracle.name}' returns {oracle.returns}."
            )
        if len(attacks) == 0:
            return Comparison(values=np.empty(0), dropped_mask=np.empty(0, dtype=bool))
        values = np.asarray(self.pair_values(oracle, attacks, objectives), dtype=np.float64)
        dropped = np.isnan(values)
        return Comparison(values=np.where(dropped, 0.0, np.clip(values, *self.bounds)), dropped_mask=dropped)

    @abstractmethod
    def pair_values(self, oracle: Oracle, attacks: Batch, objectives: Batch) -> np.ndarray:
        """(n,) float similarities; NaN where an answer could not be read."""


@dataclass(frozen=True, kw_only=True)
class LabelEquality(Similarity):
    """1 where both predicted labels agree, else 0. The published choice for classifiers; labels suffice."""

    name: ClassVar[str] = "label equality"
    returns: ClassVar[tuple[Returns, ...]] = ("label", "scores")

    def pair_values(self, oracle: Oracle, attacks: Batch, objectives: Batch) -> np.ndarray:
        return (oracle.labels(attacks) == oracle.labels(objectives)).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class ScoreOverlap(Similarity):
    """1 - total variation distance of the two probability vectors. Varies less than label equality; not published."""

    name: ClassVar[str] = "score overlap"
    returns: ClassVar[tuple[Returns, ...]] = ("scores",)

    def pair_values(self, oracle: Oracle, attacks: Batch, objectives: Batch) -> np.ndarray:
        first = _check_probabilities(oracle.name, oracle(attacks))
        second = _check_probabilities(oracle.name, oracle(objectives))
        return 1.0 - 0.5 * np.abs(first - second).sum(axis=1)


@dataclass(frozen=True, kw_only=True)
class TextMatch(Similarity):
    """Similarity of two replies, in exactly one of three ways.

    Attributes:
        classes: 1 if both replies name the same one of these labels, 0 if different ones; pairs with a reply that
            names none or several are dropped.
        scorer: any function of the two lists of replies.
        judge: a text encoder; (1 + cosine of the embeddings of the replies) / 2.
    """

    name: ClassVar[str] = "text match"
    returns: ClassVar[tuple[Returns, ...]] = ("text",)
    classes: tuple[str, ...] = ()
    scorer: TextScorer | None = None
    judge: Target | None = None

    def __post_init__(self) -> None:
        given = [bool(self.classes), self.scorer is not None, self.judge is not None]
        if sum(given) != 1:
            raise InputError(
                f"expected exactly one of classes, scorer and judge to compare texts by, but got {sum(given)} of them."
            )
        if self.judge is not None:
            _check_judge(self.judge, "text")

    @cached_property
    def _judge(self) -> Oracle:
        assert self.judge is not None
        return Oracle(self.judge)

    def pair_values(self, oracle: Oracle, attacks: Batch, objectives: Batch) -> np.ndarray:
        first, second = list(oracle(attacks)), list(oracle(objectives))
        if self.judge is not None:
            return 0.5 + 0.5 * _cosines(self._judge(first), self._judge(second))
        if self.scorer is not None:
            return _check_scorer(self.scorer(first, second), len(first))
        labels = [(parse_label(a, self.classes), parse_label(b, self.classes)) for a, b in zip(first, second)]
        return np.array([np.nan if a is None or b is None else float(a == b) for a, b in labels])


@dataclass(frozen=True, kw_only=True)
class ImageJudge(Similarity):
    """Mean cosine, under an independent encoder, of images generated for both prompts and paired in order.

    Attributes:
        judge: an image encoder outside the candidate set; otherwise it would favour itself.
        images_per_prompt: images to compare. A service that gives fewer per call is asked again.
    """

    name: ClassVar[str] = "image judge"
    returns: ClassVar[tuple[Returns, ...]] = ("image",)
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    judge: Target
    images_per_prompt: int = 4

    def __post_init__(self) -> None:
        _check_judge(self.judge, "image")
        if self.images_per_prompt < 1:
            raise InputError(f"expected at least 1 image per prompt, but got {self.images_per_prompt}.")

    @property
    def queries_per_sample(self) -> int:
        """One call for each image to compare, as if the service gave a single one at a time."""
        return self.images_per_prompt

    @property
    def queries_per_objective(self) -> int:
        """As many as for a sample; asked once per objective."""
        return self.images_per_prompt

    @cached_property
    def _judge(self) -> Oracle:
        return Oracle(self.judge)

    def pair_values(self, oracle: Oracle, attacks: Batch, objectives: Batch) -> np.ndarray:
        first, second = self._generate(oracle, attacks), self._generate(oracle, objectives)
        cosines = _cosines(self._embed(first), self._embed(second))
        return cosines.reshape(-1, self.images_per_prompt).mean(axis=1)

    def _generate(self, oracle: Oracle, prompts: Batch) -> np.ndarray:
        """(n, images_per_prompt, h, w, 3) uint8."""
        parts: list[np.ndarray] = []
        while sum(part.shape[1] for part in parts) < self.images_per_prompt:
            images = np.asarray(oracle(prompts, repeat=len(parts)))
            parts.append(images if images.ndim == 5 else images[:, None])
        return np.concatenate(parts, axis=1)[:, : self.images_per_prompt]

    def _embed(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._judge(images.reshape(-1, *images.shape[2:])))


@dataclass(frozen=True, kw_only=True)
class SelfScore(Similarity):
    """A vision-language service's own opinion of how alike two images are, as the mean over both orders.

    Deviation from the published procedure: a pair is dropped when either reply has no readable number, since one
    order alone keeps the service's preference for a place.
    """

    name: ClassVar[str] = "self score"
    returns: ClassVar[tuple[Returns, ...]] = ("text",)
    question: str = (
        "How similar are these two images? Answer with one decimal number between 0.0 (nothing in common) and "
        "1.0 (the same image), and nothing else."
    )

    @property
    def queries_per_sample(self) -> int:
        """Two: the pair in either order."""
        return 2

    @property
    def queries_per_objective(self) -> int:
        """None: an objective is asked about only together with a sample."""
        return 0

    def pair_values(self, oracle: Oracle, attacks: Batch, objectives: Batch) -> np.ndarray:
        if oracle.modality != "prompt":
            raise InputError(
                f"{self.name} asks a question about two images, but target '{oracle.name}' takes {oracle.modality}."
            )
        pairs = list(zip(attacks, objectives))
        prompts = [Prompt(self.question, (a, b)) for a, b in pairs]
        prompts += [Prompt(self.question, (b, a)) for a, b in pairs]
        scores = [parse_score(str(reply)) for reply in oracle(prompts)]
        numbers = np.array([np.nan if score is None else score for score in scores])
        return numbers.reshape(2, -1).mean(axis=0)


def choose_similarity(
    oracle: Oracle,
    *,
    judge: Target | None = None,
    classes: Sequence[str] = (),
    scorer: TextScorer | None = None,
    overlap: bool = False,
    candidate_fingerprints: Collection[str] = (),
) -> Similarity:
    """The adapter for what ``oracle`` returns.

    Args:
        judge: encoder for services that return images (an image encoder) or free text (a text encoder).
        classes: label names to look for in texts; goes before ``judge``, and ``scorer`` before both.
        overlap: compare score vectors by total variation instead of by label.
        candidate_fingerprints: identities of the candidates, none of which may be the judge.

    Raises:
        InputError: something that the adapter needs is missing, or the answers cannot be compared.
    """
    if judge is not None and judge.fingerprint in candidate_fingerprints:
        raise InputError(
            f"the judge '{judge.name}' is one of the candidates; it would favour itself. Give another encoder."
        )
    if oracle.returns in ("label", "scores"):
        if overlap and oracle.returns == "label":
            raise InputError(
                f"score overlap needs scores, but target '{oracle.name}' returns label. Leave overlap out."
            )
        return ScoreOverlap() if overlap else LabelEquality()
    if oracle.returns == "text" and oracle.modality == "prompt":
        return SelfScore()
    if oracle.returns == "text":
        if scorer is not None:
            return TextMatch(scorer=scorer)
        if classes:
            return TextMatch(classes=tuple(classes))
        if judge is not None:
            return TextMatch(judge=judge)
        raise InputError(
            f"target '{oracle.name}' returns text: give the classes it names, a scorer, or a text encoder as judge, "
            "to compare its replies by."
        )
    if oracle.returns == "image":
        if judge is None:
            raise InputError(
                f"target '{oracle.name}' returns images: give an image encoder that is not a candidate as judge, to compare them by."
            )
        return ImageJudge(judge=judge)
    raise InputError(
        f"target '{oracle.name}' returns {oracle.returns}; encoder inference compares label, scores, text or image."
    )


def _cosines(first: Answers, second: Answers) -> np.ndarray:
    """(n,) cosines of the rows; 0 where a row is all zeros."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def _check_probabilities(name: str, answers: Answers) -> np.ndarray:
    scores = np.asarray(answers, dtype=np.float64)
    if scores.min() < 0 or np.abs(scores.sum(axis=1) - 1).max() > 1e-2:
        raise InputError(
            f"score overlap needs probabilities, but target '{name}' returns scores in {scores.min():.4g}..{scores.max():.4g} "
            f"that sum to {scores.sum(axis=1).min():.4g}..{scores.sum(axis=1).max():.4g}. Compare labels instead, or apply softmax."
        )
    return scores


def _check_scorer(values: Sequence[float], n: int) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n,) or not ((found >= 0) & (found <= 1)).all():
        raise InputError(
            f"expected the scorer to give {n} numbers in 0..1, but got {found.size} in {found.min(initial=0):.4g}.."
            f"{found.max(initial=0):.4g}."
        )
    return found


def _check_judge(judge: Target, modality: Modality) -> None:
    if judge.modality != modality or judge.returns != "embedding":
        raise InputError(
            f"expected a judge that takes {modality} and returns embedding, but '{judge.name}' takes {judge.modality} "
            f"and returns {judge.returns}."
        )
