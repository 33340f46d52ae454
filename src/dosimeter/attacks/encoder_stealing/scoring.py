"""What a copy is worth: downstream accuracy beside the target's and an untrained network's, and how alike vectors are.

Source: StolenEncoder, arXiv 2201.05889, section 5 (TA, SA and their ratio). The ratio flatters easy tasks, on which an
untrained network does well too; so the recovered share (SA - RA) / (TA - RA) always stands beside it. Deviation: the paper's RA
is an untrained network's. Its unit-length vectors all point one way, so that heads make little of them, and a copy that learned
nothing but to spread its vectors (from random ones) would pass for half a theft; RA is therefore the better of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import unit_rows
from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.core.records import content_hash
from dosimeter.core.seeding import derive_seed
from dosimeter.data.dataset import Dataset
from dosimeter.models.heads import HeadRecipe, head_predictions
from dosimeter.stats.intervals import cluster_bootstrap


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled task that encoders are judged on; the attacker has not chosen it."""

    name: str
    train: Dataset
    test: Dataset

    def __post_init__(self) -> None:
        for part in (self.train, self.test):
            if part.labels is None:
                raise InputError(f"task '{self.name}' needs labels, but data '{part.name}' has none.")
        if self.train.classes != self.test.classes:
            raise InputError(f"task '{self.name}' has other classes for training than for testing.")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.train.classes)


@dataclass(frozen=True, eq=False)
class Share:
    """A figure with a 95 % interval from resampling test records (and, within them, head seeds) together."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, eq=False)
class TaskScores:
    """Heads on every encoder for one task, the same seeds and schedule for all.

    Attributes:
        names: of the encoders.
        predictions: (encoders, seeds, m) int64.
        labels: (m,) int64.
        keys: (m,) content hash of each test record.
    """

    task: str
    names: tuple[str, ...]
    predictions: np.ndarray
    labels: np.ndarray
    keys: tuple[str, ...]

    def correct(self, name: str) -> np.ndarray:
        """(m,) share of head seeds that are right about each test record, 0..1."""
        return (self.predictions[self.names.index(name)] == self.labels).mean(0)

    def accuracy(self, name: str) -> Share:
        """Test accuracy, mean over seeds."""
        return _resampled(self.correct(name)[:, None], lambda means: means[..., 0])

    def ratio(self, stolen: str, target: str) -> Share:
        """SA / TA."""
        both = np.stack([self.correct(stolen), self.correct(target)], axis=1)
        return _resampled(both, lambda means: means[..., 0] / np.maximum(means[..., 1], 1e-9))

    def floor(self, *floors: str) -> str:
        """The encoder among ``floors`` whose heads do best: what can be had without stealing anything."""
        return max(floors, key=lambda name: float(self.correct(name).mean()))

    def recovered(self, stolen: str, target: str, *floors: str) -> Share | None:
        """(SA - RA) / (TA - RA), where RA is the best of ``floors``.

        ``None`` where the target is not better than that floor, so that there is nothing to recover: its lead must be above
        zero with 95 % confidence.
        """
        floor = self.floor(*floors)
        lead = _resampled((self.correct(target) - self.correct(floor))[:, None], lambda means: means[..., 0])
        if lead.low <= 0:
            return None
        three = np.stack([self.correct(stolen), self.correct(target), self.correct(floor)], axis=1)
        return _resampled(
            three,
            lambda means: (means[..., 0] - means[..., 2]) / np.maximum(means[..., 1] - means[..., 2], 1e-9),
        )

    def agreement(self, one: str, other: str) -> Share:
        """Share of test records to which the heads on both encoders say the same class, mean over seeds."""
        first, second = (self.predictions[self.names.index(name)] for name in (one, other))
        return _resampled((first == second).mean(0)[:, None], lambda means: means[..., 0])


def _resampled(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Share:
    """``statistic`` of the column means of ``values`` (m, columns), with whole rows resampled 2,000 times."""
    m = len(values)
    draws = statistic(_resamples(m) @ values / m)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Share(float(statistic(values.mean(0))), float(low), float(high), m)


@lru_cache(maxsize=2)
def _resamples(m: int) -> np.ndarray:
    """(2000, m) how often each of ``m`` rows is in each resample; kept, since drawing them takes most of the time."""
    counts = np.random.default_rng(0).multinomial(m, np.full(m, 1 / m), size=2000).astype(np.uint16)
    counts.flags.writeable = False
    return counts


def score_task(
    task: Task,
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    recipe: HeadRecipe,
    *,
    seed: int,
    heads: int = 3,
) -> TaskScores:
    """Train ``heads`` heads on every encoder's vectors of the task.

    Args:
        vectors: name of an encoder to its vectors of the training (n, d) and of the test records (m, d); they are
            brought to unit length.
        heads: seeds of the head; all encoders see the same ones.
    """
    train = [unit_rows(part) for part, _ in vectors.values()]
    test = [unit_rows(part) for _, part in vectors.values()]
    labels = np.asarray(task.train.labels)
    predictions = np.stack(
        [
            head_predictions(
                train,
                labels,
                test,
                classes=task.classes,
                recipe=recipe,
                seed=derive_seed(seed, "downstream", task.name, number),
                task=f"training downstream heads: {task.name}",
            )
            for number in range(heads)
        ],
        axis=1,
    )
    return _task_scores(task, vectors, predictions)


def probe_task(task: Task, vectors: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> TaskScores:
    """The same with a logistic regression on standardised vectors in place of the perceptron on unit-length ones.

    A stricter judge: it makes more of an untrained network, whose vectors all point one way, and so of the floor.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels, predictions = np.asarray(task.train.labels), []
    with track(f"linear probes: {task.name}", len(vectors)) as bar:
        for train, test in vectors.values():
            fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            predictions.append(fitted.fit(unit_rows(train), labels).predict(unit_rows(test)))
            bar.advance()
    return _task_scores(task, vectors, np.stack(predictions)[:, None])


def _task_scores(task: Task, names: Iterable[str], predictions: np.ndarray) -> TaskScores:
    keys = tuple(content_hash(record) for record in task.test.inputs)
    return TaskScores(task.name, tuple(names), predictions, np.asarray(task.test.labels), keys)


@dataclass(frozen=True)
class Similarity:
    """How alike two encoders' vectors of the same held-out inputs are.

    Attributes:
        cosine: mean cosine, with a bootstrap interval over inputs.
        centred_cosine: the same after taking each encoder's mean vector away, which tells copies from vectors that
            all point one way.
        cka: linear centred kernel alignment (Kornblith et al. 2019), 0..1, for any two widths.
        per_input: (n,) centred cosines; empty where widths differ.
    """

    cosine: Share | None
    centred_cosine: Share | None
    cka: float
    per_input: np.ndarray


def similarity(stolen: np.ndarray, target: np.ndarray) -> Similarity:
    """Compare (n, d) vectors of a copy with (n, e) vectors of the target; cosines only where d = e."""
    stolen, target = unit_rows(stolen), unit_rows(target)
    cka = linear_cka(stolen, target)
    if stolen.shape[1] != target.shape[1]:
        return Similarity(None, None, cka, np.empty(0))
    centred = (unit_rows(stolen - stolen.mean(0)) * unit_rows(target - target.mean(0))).sum(1)
    return Similarity(_mean((stolen * target).sum(1)), _mean(centred), cka, centred)


def _mean(values: np.ndarray) -> Share:
    low, high = cluster_bootstrap(values[:, None], np.random.default_rng(0))
    return Share(float(values.mean()), float(low[0]), float(high[0]), len(values))


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Linear CKA of (n, d) and (n, e): ``|X'Y|^2 / (|X'X| |Y'Y|)`` with centred columns, in 0..1; 0 where one is constant."""
    x, y = (np.asarray(part, np.float64) - np.mean(part, axis=0) for part in (one, other))
    across = np.linalg.norm(x.T @ y) ** 2
    own = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(across / own) if own > 1e-12 else 0.0
