"""Many copies of one encoder, trained in processes of one thread each, and what they say to the inputs that judge them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dosimeter.attacks.encoder_stealing.keeping import kept
from dosimeter.attacks.encoder_stealing.losses import Goal
from dosimeter.attacks.encoder_stealing.purchase import Purchase
from dosimeter.attacks.encoder_stealing.surrogates import surrogate
from dosimeter.attacks.encoder_stealing.training import Recipe, StolenEncoder, steal
from dosimeter.attacks.encoder_stealing.views import Views
from dosimeter.core.progress import track
from dosimeter.core.records import Batch
from dosimeter.models.training import single_thread
from dosimeter.study.threads import usable_cpus

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Arm:
    """One copy to make.

    Attributes:
        purchase: what it learns from; without a ``recipe`` the surrogate stays untrained.
        seed: fixes start, order and views.
        goal: in place of the directions of the vectors.
        train: in place of :func:`steal`: given purchase, untrained surrogate, views and seed.
        note: distinguishes arms that differ in ``goal`` or ``train`` alone.
    """

    name: str
    purchase: Purchase
    recipe: Recipe | None
    seed: int = 0
    goal: Goal | None = None
    train: Callable[[Purchase, Any, Views, int], StolenEncoder] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Made:
    """What an arm came to: vectors of each judging batch by name, the digest of the weights, and the cost."""

    name: str
    vectors: dict[str, np.ndarray]
    digest: str
    queries: int
    losses: tuple[float, ...] = field(default=())


def jobs(
    arms: Sequence[Arm],
    judged: Mapping[str, Batch],
    views: Views,
    *,
    architecture: str,
    length: int,
    cache: Path | None,
) -> dict[str, Callable[[], Made]]:
    """The making of every arm's copy as a job of its own, by the arm's name.

    Args:
        judged: name to a batch whose vectors are wanted of every copy.
        architecture: of the surrogate, as in ``surrogates``.
        length: words of a text surrogate.
        cache: where copies are kept between runs.
    """
    return {arm.name: partial(_make, arm, judged, views, architecture, length, cache) for arm in arms}


def make(
    arms: Sequence[Arm], judged: Mapping[str, Batch], views: Views, *, task: str, **settings: Any
) -> dict[str, Made]:
    """Every arm's copy; the rest as in :func:`jobs`. ``task`` is what progress calls it."""
    return side_by_side(jobs(arms, judged, views, **settings), task)


def side_by_side(jobs: Mapping[str, Callable[[], T]], task: str) -> dict[str, T]:
    """What each of ``jobs`` gives, by name, from as many processes of one thread as there are processors.

    The outcome does not depend on their number.
    """
    from joblib import Parallel, delayed

    done: dict[str, T] = {}
    workers = Parallel(n_jobs=min(len(jobs), usable_cpus()), return_as="generator_unordered")
    with track(task, len(jobs)) as bar:
        for name, outcome in workers(delayed(_work)(name, job) for name, job in jobs.items()):
            done[name] = outcome
            bar.advance()
    return {name: done[name] for name in jobs}


def _work(name: str, job: Callable[[], T]) -> tuple[str, T]:
    with single_thread():
        return name, job()


def _make(
    arm: Arm, judged: Mapping[str, Batch], views: Views, architecture: str, length: int, cache: Path | None
) -> Made:
    width = arm.purchase.vectors.shape[1]
    network = surrogate(architecture, width=width, seed=arm.seed, length=length)
    if arm.recipe is None:
        copy = StolenEncoder(network.eval(), views)
    else:
        signature = (arm.purchase.digest, arm.recipe.model_dump_json(), arm.seed, arm.note, vars(views))
        recipe = arm.recipe

        def train() -> StolenEncoder:
            if arm.train is not None:
                return arm.train(arm.purchase, network, views, arm.seed)
            return steal(arm.purchase, network, views, recipe, seed=arm.seed, goal=arm.goal)

        copy = kept(cache, signature, network, views, train)
    vectors = {name: copy.embed(batch) for name, batch in judged.items()}
    return Made(arm.name, vectors, copy.digest, copy.queries, copy.losses)
