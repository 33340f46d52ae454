"""One campaign against one service: probe, buy, train copies and controls, judge all of them beside the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from dosimeter.attacks.encoder_stealing.attack import default_surrogate, words_or_pixels
from dosimeter.attacks.encoder_stealing.keeping import kept
from dosimeter.attacks.encoder_stealing.losses import Goal
from dosimeter.attacks.encoder_stealing.purchase import Probe, Purchase, buy, probe, unit_rows
from dosimeter.attacks.encoder_stealing.scoring import (
    Similarity,
    Task,
    TaskScores,
    probe_task,
    score_task,
    similarity,
)
from dosimeter.attacks.encoder_stealing.selection import at_random, k_center, most_disputed, saturated
from dosimeter.attacks.encoder_stealing.surrogates import surrogate
from dosimeter.attacks.encoder_stealing.tasks import as_large_as
from dosimeter.attacks.encoder_stealing.training import Recipe, StolenEncoder, steal
from dosimeter.attacks.encoder_stealing.views import Views, views_for
from dosimeter.attacks.encoder_stealing.zero_shot import prompts, zero_shot_labels
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Batch, take
from dosimeter.core.seeding import derive_seed

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_stealing.attack import EncoderStealing

STOLEN, UNTRAINED, PERMUTED, TARGET = "stolen", "untrained", "permuted", "target"
RANDOM = "random-vectors"
#: What can be had without stealing anything; the better one on a task is its floor.
FLOORS = (UNTRAINED, RANDOM)


@dataclass(frozen=True)
class CurvePoint:
    """A copy made with the first ``queries`` inputs bought, and how alike it is on held-out inputs."""

    queries: int
    money: float
    similarity: Similarity


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot hits (m,) of the target's and the stolen image tower on one task."""

    task: str
    target: np.ndarray
    stolen: np.ndarray
    classes: int


@dataclass(frozen=True, eq=False)
class Spoils:
    """Everything a campaign made and measured.

    Attributes:
        tasks: what encoders were judged on, images at the size of those that were bought.
        copies: by name; ``stolen`` is the paper's, ``untrained`` and ``random-vectors`` (trained on vectors that say nothing)
            the floors, ``permuted`` a control.
        best: name of the copy that is most like the target on held-out inputs, controls apart.
        scores, linear: heads on every encoder per task; the published perceptrons, and linear probes.
        planted: similarity of a copy to a network of the surrogate's own kind, which the attack must be able to steal.
        defense: what defence shows in the vectors, in words; empty if none.
        thief_queries: distinct calls of the attack itself: probes, purchase, repeats to undo a defence, and held-out inputs
            where they decide when to stop.
        evaluation_queries: calls that judge the copies or make baselines, which a thief would not need.
    """

    attack: EncoderStealing
    service: str
    price_per_call: float
    probe: Probe
    purchase: Purchase
    held: Batch
    overlap: int
    tasks: tuple[Task, ...] = ()
    copies: dict[str, StolenEncoder] = field(default_factory=dict)
    similarities: dict[str, Similarity] = field(default_factory=dict)
    scores: list[TaskScores] = field(default_factory=list)
    linear: list[TaskScores] = field(default_factory=list)
    zero_shot: list[ZeroShot] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    stopped: bool = False
    best: str = STOLEN
    planted: Similarity | None = None
    defense: str = ""
    thief_queries: int = 0
    evaluation_queries: int = 0


class Campaign:
    """The steps of :class:`EncoderStealing` against one oracle.

    Args:
        pool: inputs to buy from, in random order.
        held: inputs to compare vectors on, none of them bought.
        overlap: public inputs left out since a task tests on them.
    """

    def __init__(
        self,
        attack: EncoderStealing,
        oracle: Oracle,
        context: Context,
        tasks: tuple[Task, ...],
        pool: Batch,
        held: Batch,
        overlap: int,
    ) -> None:
        self.attack, self.oracle, self.context = attack, oracle, context
        self.pool, self.held, self.overlap = pool, held, overlap
        self.tasks = tuple(as_large_as(task, pool) for task in tasks)
        self._spent = 0
        self._texts: dict[str, np.ndarray] = {}
        size = words_or_pixels(attack, oracle.modality)
        self.views: Views = views_for(oracle.modality, size, crop=attack.crop, flip=attack.flip)
        self.length = size

    def run(self) -> Spoils:
        """Probe, buy, train, judge."""
        before = self.oracle.queries
        with self._paid_by_the_thief():
            seen = probe(self.oracle, take(self.pool, np.arange(min(self.attack.probes, len(self.pool)))))
        found = Spoils(
            attack=self.attack,
            service=self.oracle.name,
            price_per_call=self.oracle.price_per_call,
            probe=seen,
            purchase=Purchase(self.pool[:0], np.empty((0, 0), np.float32)),
            held=self.held,
            overlap=self.overlap,
            tasks=self.tasks,
        )
        if seen.doubt:
            return found
        self._check_before_buying(seen)
        purchase, curve, stopped = self._shop()
        found = replace(found, purchase=purchase, curve=curve, stopped=stopped)
        with self._paid_by_the_thief():
            found = self._train_own(found)
        found = self._judge(self._train_others(found))
        others = self.oracle.queries - before - self._spent
        return replace(found, thief_queries=self._spent, evaluation_queries=others)

    @contextmanager
    def _paid_by_the_thief(self) -> Iterator[None]:
        before = self.oracle.queries
        yield
        self._spent += self.oracle.queries - before

    def _check_before_buying(self, seen: Probe) -> None:
        """Raise what would otherwise come to light only once the money is spent."""
        self.network(seen.first.shape[1])
        tower = self.attack.text_tower
        if tower is None:
            return
        from dosimeter.targets.encoders import embed

        for task in self.tasks:
            classes = prompts(task.test.classes, self.attack.template)
            self._texts[task.name] = embed(tower, classes, what="the text tower")
            zero_shot_labels(seen.first, self._texts[task.name])

    def _seed(self, *path: str | int) -> int:
        return derive_seed(self.context.seed, "encoder-stealing", *path)

    def network(self, width: int, *path: str | int) -> nn.Module:
        """An untrained surrogate; the same for one ``path``."""
        name = self.attack.surrogate or default_surrogate(self.oracle.modality)
        return surrogate(
            name, width=width, seed=self._seed("start", *path), match=self.attack.match, length=self.length
        )

    def copy_of(
        self,
        purchase: Purchase,
        recipe: Recipe,
        *path: str | int,
        goal: Goal | None = None,
        label: str = STOLEN,
    ) -> StolenEncoder:
        """A copy trained on ``purchase`` towards ``goal``, taken from the cache where it is there."""
        network = self.network(purchase.vectors.shape[1], *path)
        kind = "directions" if goal is None else label
        return self.kept(
            network,
            (kind, purchase.digest, recipe.model_dump_json(), *path),
            lambda seed: steal(
                purchase, network, self.views, recipe, seed=seed, goal=goal, task=f"training: {label}"
            ),
        )

    def kept(
        self, network: nn.Module, signature: tuple[object, ...], train: Callable[[int], StolenEncoder]
    ) -> StolenEncoder:
        """What ``train``, given a seed, makes of ``network``; taken from the cache under ``signature`` where it is there."""
        seed = self._seed("train")
        settings = (self.length, self.attack.crop, self.attack.flip, seed)
        return kept(self.context.cache, (*signature, *settings), network, self.views, lambda: train(seed))

    def _shop(self) -> tuple[Purchase, list[CurvePoint], bool]:
        """Buy budget by budget; a copy per budget tells whether more is worth it."""
        bought = np.empty(0, dtype=np.int64)
        purchase: Purchase | None = None
        curve: list[CurvePoint] = []
        for budget in (*self.attack.budgets, self.attack.queries):
            rows = self._choose(budget - len(bought), bought, purchase)
            with self._paid_by_the_thief():
                more = buy(self.oracle, take(self.pool, rows))
            purchase = more if purchase is None else purchase.joined(more)
            bought = np.concatenate([bought, rows])
            if budget < self.attack.queries:
                copy = self.copy_of(purchase, self.attack.recipe, label=f"{budget} queries")
                gain = self.attack.stop_gain
                # Held-out answers that decide whether to go on are the thief's expense, others the judge's.
                with nullcontext() if gain is None else self._paid_by_the_thief():
                    curve.append(self._point(copy, len(purchase)))
                cosines = [point.similarity.centred_cosine for point in curve]
                if gain is not None and saturated([c.value for c in cosines if c is not None], gain):
                    return purchase, curve[:-1], True
        assert purchase is not None
        return purchase, curve, False

    def _point(self, copy: StolenEncoder, queries: int) -> CurvePoint:
        alike = similarity(copy.embed(self.held), np.asarray(self.oracle(self.held)))
        return CurvePoint(queries, queries * self.oracle.price_per_call, alike)

    def _choose(self, count: int, bought: np.ndarray, purchase: Purchase | None) -> np.ndarray:
        how = self.attack.selection
        if how == "random" or (how == "disagreement" and purchase is None):
            return at_random(len(self.pool), count, self.context.rng("buy", len(bought)), bought=bought)
        if how == "k-center":
            width = 64 if purchase is None else purchase.vectors.shape[1]
            if purchase is None:
                eye = StolenEncoder(self.network(width, "eye").eval(), self.views)
            else:
                eye = self.copy_of(purchase, self.attack.recipe)
            return k_center(eye.embed(self.pool), count, bought=bought)
        assert purchase is not None
        pair = [self.copy_of(purchase, self.attack.recipe, "committee", member) for member in (0, 1)]
        return most_disputed(*(copy.embed(self.pool) for copy in pair), count, bought=bought)

    def _train_own(self, found: Spoils) -> Spoils:
        """The paper's copy, and one that undoes the defence that shows in the vectors."""
        from dosimeter.attacks.encoder_stealing.undoing import adaptive_copy

        copies = {STOLEN: self.copy_of(found.purchase, self.attack.recipe)}
        if not self.attack.adaptive:
            return replace(found, copies=copies)
        undone = adaptive_copy(self, found.purchase, found.probe)
        if undone is None:
            return replace(found, copies=copies)
        return replace(found, copies={**copies, "adaptive": undone.copy}, defense=undone.defense)

    def _train_others(self, found: Spoils) -> Spoils:
        """Baselines and controls."""
        from dosimeter.attacks.encoder_stealing.rivals import baseline_copy

        purchase, recipe = found.purchase, self.attack.recipe
        copies = dict(found.copies)
        for name in self.attack.baselines:
            copies[name] = baseline_copy(self, name, purchase)
        copies[PERMUTED] = self.copy_of(
            purchase.permuted(self.context.rng("permuted")), recipe, label="permuted control"
        )
        copies[RANDOM] = self.copy_of(
            purchase.random(self.context.rng("random-vectors")), recipe, label="random vectors, the floor"
        )
        copies[UNTRAINED] = StolenEncoder(
            self.network(purchase.vectors.shape[1], "untrained").eval(), self.views
        )
        return replace(found, copies=copies, planted=self._planted(purchase))

    def _planted(self, purchase: Purchase) -> Similarity:
        """How alike a copy of a network of the surrogate's kind is, made from the same inputs: a leak that must be found."""
        hidden = StolenEncoder(self.network(purchase.vectors.shape[1], "planted").eval(), self.views)
        sold = Purchase(purchase.inputs, hidden.embed(purchase.inputs))
        copy = self.copy_of(sold, self.attack.recipe, label="planted control")
        return similarity(copy.embed(self.held), hidden.embed(self.held))

    def _judge(self, found: Spoils) -> Spoils:
        theirs = np.asarray(self.oracle(self.held))
        similarities = {
            name: similarity(copy.embed(self.held), theirs) for name, copy in found.copies.items()
        }
        honest = [name for name in found.copies if name not in (PERMUTED, *FLOORS)]
        best = max(honest, key=lambda name: _likeness(similarities[name]))
        scores, linear, zero = [], [], []
        for task in self.tasks:
            vectors = {TARGET: (self._asked(task.train.inputs), self._asked(task.test.inputs))}
            for name, copy in found.copies.items():
                vectors[name] = (copy.embed(task.train.inputs), copy.embed(task.test.inputs))
            scores.append(
                score_task(
                    task, vectors, self.attack.heads, seed=self.context.seed, heads=self.attack.head_seeds
                )
            )
            linear.append(probe_task(task, vectors))
            zero += self._zero_shot(task, vectors[TARGET][1], vectors[best][1])
        final = CurvePoint(
            len(found.purchase), len(found.purchase) * found.price_per_call, similarities[STOLEN]
        )
        return replace(
            found,
            similarities=similarities,
            best=best,
            scores=scores,
            linear=linear,
            zero_shot=zero,
            curve=[*found.curve, final],
        )

    def _asked(self, batch: Batch) -> np.ndarray:
        return unit_rows(np.asarray(self.oracle(batch)))

    def _zero_shot(self, task: Task, target: np.ndarray, stolen: np.ndarray) -> list[ZeroShot]:
        texts = self._texts.get(task.name)
        if texts is None:
            return []
        labels = task.test.labels
        hits = [zero_shot_labels(vectors, texts) == labels for vectors in (target, stolen)]
        return [ZeroShot(task.name, hits[0], hits[1], task.classes)]


def _likeness(alike: Similarity) -> float:
    return alike.cka if alike.centred_cosine is None else alike.centred_cosine.value
