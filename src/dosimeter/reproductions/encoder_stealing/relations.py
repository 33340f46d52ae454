"""Relations measured alike on every encoder that is stolen, and the tables and figures they are read off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from dosimeter.attacks.encoder_stealing.scoring import (
    Share,
    Similarity,
    Task,
    TaskScores,
    probe_task,
    score_task,
    similarity,
)
from dosimeter.core.claim import Claim, Relation
from dosimeter.core.figures import line
from dosimeter.core.result import Figure, Table
from dosimeter.models.heads import HeadRecipe
from dosimeter.reproductions.encoder_stealing.arms import Made, side_by_side

TARGET, UNTRAINED, RANDOM = "target", "untrained", "random vectors"
FLOORS = (UNTRAINED, RANDOM)
HELD = "held-out"

# Bounds of the specification, from the paper's words: stolen and target accuracies are similar on all targets.
RATIO, RECOVERED, COSINE, CENTRED_GAIN = 0.90, 0.60, 0.80, 0.40


@dataclass
class Measured:
    """What a size of the reproduction measured."""

    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


@dataclass(frozen=True)
class Judged:
    """Every copy of one encoder beside it: similarity on held-out inputs, heads and linear probes per task."""

    made: Mapping[str, Made]
    similarities: dict[str, Similarity]
    scores: dict[str, TaskScores]
    linear: dict[str, TaskScores]

    def recovered(self, name: str, task: str | None = None) -> float:
        """Recovered share of copy ``name`` on ``task``, or its mean over tasks; 0 where there is nothing to recover."""
        tasks = [task] if task else list(self.scores)
        shares = [self.scores[t].recovered(name, TARGET, *FLOORS) for t in tasks]
        return float(np.mean([share.value if share else 0.0 for share in shares]))

    def accuracy(self, name: str) -> float:
        """Test accuracy of the heads on copy ``name``, mean over tasks."""
        return float(np.mean([scores.accuracy(name).value for scores in self.scores.values()]))

    def centred(self, name: str) -> Share:
        """Centred cosine of copy ``name`` with the target on held-out inputs."""
        found = self.similarities[name].centred_cosine
        assert found is not None
        return found


def judge(
    made: Mapping[str, Made],
    target: Mapping[str, np.ndarray],
    tasks: Sequence[Task],
    heads: HeadRecipe,
    *,
    seed: int,
    head_seeds: int = 1,
) -> Judged:
    """Judge every arm. ``target`` has the service's vectors of the same batches: ``held-out``, ``<task> train``, ``<task> test``."""
    jobs = {task.name: partial(_score, task, made, target, heads, seed, head_seeds) for task in tasks}
    both = side_by_side(jobs, "judging copies")
    scores = {task: found[0] for task, found in both.items()}
    linear = {task: found[1] for task, found in both.items()}
    alike = {name: similarity(one.vectors[HELD], target[HELD]) for name, one in made.items()}
    return Judged(made, alike, scores, linear)


def _score(
    task: Task,
    made: Mapping[str, Made],
    target: Mapping[str, np.ndarray],
    heads: HeadRecipe,
    seed: int,
    head_seeds: int,
) -> tuple[TaskScores, TaskScores]:
    train, test = f"{task.name} train", f"{task.name} test"
    vectors = {TARGET: (target[train], target[test])}
    vectors |= {name: (one.vectors[train], one.vectors[test]) for name, one in made.items()}
    return score_task(task, vectors, heads, seed=seed, heads=head_seeds), probe_task(task, vectors)


def batches_of(tasks: Sequence[Task], held: np.ndarray | list[str]) -> dict[str, object]:
    """What every copy is asked to judge it, by name."""
    found: dict[str, object] = {HELD: held}
    for task in tasks:
        found[f"{task.name} train"], found[f"{task.name} test"] = task.train.inputs, task.test.inputs
    return found


def share_claim(
    name: str, statement: str, share: Share | None, relation: Relation, bound: float, *, control: bool = False
) -> Claim:
    """A claim on a share with its interval; one that could not be measured holds for nothing."""
    if share is None:
        return Claim(
            name, f"{statement} (nothing to recover)", float("nan"), relation, bound, control=control
        )
    return Claim(
        name,
        statement,
        share.value,
        relation,
        bound,
        low=min(share.low, share.value),
        high=max(share.high, share.value),
        control=control,
    )


def in_domain_claims(judged: Judged, stolen: str) -> list[Claim]:
    """Relations 1 and 2: the copy is about as useful as the original, and says about the same."""
    claims = []
    for task, scores in judged.scores.items():
        floor = scores.floor(*FLOORS)
        ta, sa, ra = (scores.accuracy(name).value for name in (TARGET, stolen, floor))
        said = f"{task}: TA {ta:.3f}, SA {sa:.3f}, RA {ra:.3f} ({floor})"
        claims.append(
            share_claim(f"ratio-{task}", f"SA / TA on {said}", scores.ratio(stolen, TARGET), ">=", RATIO)
        )
        claims.append(
            share_claim(
                f"recovered-{task}",
                f"recovered share (SA - RA) / (TA - RA) on {task}",
                scores.recovered(stolen, TARGET, *FLOORS),
                ">=",
                RECOVERED,
            )
        )
    cosine = judged.similarities[stolen].cosine
    claims.append(share_claim("cosine", "mean held-out cosine of copy and original", cosine, ">=", COSINE))
    gain = judged.centred(stolen).value - judged.centred(UNTRAINED).value
    claims.append(
        Claim(
            "centred-cosine",
            f"centred held-out cosine of the copy ({judged.centred(stolen).value:.3f}) minus that of an untrained network "
            f"({judged.centred(UNTRAINED).value:.3f})",
            gain,
            ">=",
            CENTRED_GAIN,
        )
    )
    return claims


def repeats(arm: str, seeds: int) -> list[str]:
    """Names of the arms that repeat ``arm`` with further seeds, itself first."""
    return [arm + (f", {number}" if number else "") for number in range(seeds)]


def augmentation_claims(
    judged: Judged,
    queries: int,
    seeds: int,
    most: int,
    seeds_at_most: int,
    *,
    open_recovered: str | None = None,
) -> list[Claim]:
    """Relation 3: augmented views help where inputs are few, and less where they are many.

    Arms are ``<queries> queries`` and ``stolen`` (at ``most``) with augmentation, ``<queries> queries, no augmentation`` and
    ``no augmentation`` without. The recovered share is what the specification asks about; the held-out cosine is finer.

    Args:
        open_recovered: why the gain in recovered share may not show.
    """

    def gains(with_views: str, without: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        pairs = list(zip(repeats(with_views, count), repeats(without, count)))
        return (
            np.array([judged.recovered(one) - judged.recovered(other) for one, other in pairs]),
            np.array([judged.centred(one).value - judged.centred(other).value for one, other in pairs]),
        )

    few, few_closer = gains(f"{queries} queries", f"{queries} queries, no augmentation", seeds)
    many, many_closer = gains("stolen", "no augmentation", seeds_at_most)
    return [
        _mean_claim(
            "augmentation-recovered",
            f"recovered share with lambda = 20 minus lambda = 0 at {queries} queries, mean of {seeds} seeds",
            few,
            open_recovered,
        ),
        _mean_claim("augmentation-cosine", "the same for the centred held-out cosine", few_closer, None),
        Claim(
            "augmentation-gap",
            f"that gain in recovered share at {queries} queries ({few.mean():+.3f}) minus the gain at {most} ({many.mean():+.3f})",
            float(few.mean() - many.mean()),
            ">=",
            0.0,
            open=open_recovered,
        ),
        Claim(
            "augmentation-gap-cosine",
            f"the same for the centred held-out cosine ({few_closer.mean():+.3f} and {many_closer.mean():+.3f})",
            float(few_closer.mean() - many_closer.mean()),
            ">=",
            0.0,
        ),
    ]


def _mean_claim(name: str, statement: str, values: np.ndarray, reason: str | None) -> Claim:
    low, high = float(values.min()), float(values.max())
    return Claim(name, statement, float(values.mean()), ">=", 0.0, low=low, high=high, open=reason)


def budget_claim(judged: Judged, few: int, most: int, seeds: int, seeds_at_most: int | None = None) -> Claim:
    """Relation 4: more queries never hurt, up to one point of accuracy."""
    fewer = [judged.accuracy(arm) for arm in repeats(f"{few} queries", seeds)]
    more = [judged.accuracy(arm) for arm in repeats("stolen", seeds_at_most or seeds)]
    return Claim(
        "more-queries",
        f"SA at {most} queries ({np.mean(more):.3f}) minus SA at {few} ({np.mean(fewer):.3f}), means over "
        f"{len(judged.scores)} tasks and {seeds} seeds",
        float(np.mean(more) - np.mean(fewer)),
        ">=",
        -0.01,
    )


def scratch_claims(judged: Judged, stolen: str, scratch: str) -> list[Claim]:
    """Relation 5: the same inputs and compute without a query give less, on some task by three points or more."""
    gains = {
        task: scores.accuracy(stolen).value - scores.accuracy(scratch).value
        for task, scores in judged.scores.items()
    }
    best = max(gains, key=gains.__getitem__)
    return [
        Claim(
            "over-scratch",
            f"SA minus accuracy of SimCLR on the same inputs without a query, on {best}, the task where it is largest",
            gains[best],
            ">=",
            0.03,
        )
    ]


def budget_table(judged: Judged, arms: Mapping[int, str], name: str = "budget") -> Table:
    """Calls against what they bring."""
    rows = []
    for calls, arm in arms.items():
        rows.append(
            [
                calls,
                round(judged.accuracy(arm), 3),
                round(judged.recovered(arm), 3),
                round(judged.centred(arm).value, 3),
            ]
        )
    return Table(
        name=name,
        title="What calls bring",
        columns=["calls", "SA, mean of tasks", "recovered share", "centred cosine"],
        rows=rows,
    )


def control_claims(judged: Judged, permuted: str, constant: str | None) -> list[Claim]:
    """Shuffled vectors and one vector for all teach nothing."""
    claims = []
    for arm, words in (
        (permuted, "vectors shuffled among the inputs"),
        (constant, "the same vector for every input"),
    ):
        if arm is None:
            continue
        claims.append(
            Claim(
                f"{arm}",
                f"recovered share of a copy trained on {words}, mean of {len(judged.scores)} tasks",
                judged.recovered(arm),
                "<=",
                0.05,
                control=True,
            )
        )
    share = judged.centred(permuted)
    claims.append(
        share_claim(
            f"{permuted}-cosine",
            "centred held-out cosine of a copy trained on shuffled vectors",
            Share(
                abs(share.value),
                min(abs(share.low), abs(share.high)),
                max(abs(share.low), abs(share.high)),
                share.n,
            ),
            "<=",
            0.2,
            control=True,
        )
    )
    return claims


def copies_tables(judged: Judged, title: str, name: str = "copies") -> list[Table]:
    """Two tables with a row per encoder: how alike its vectors are, and what it is worth on each task.

    Of arms that only repeat another one with a further seed, none is shown.
    """
    shown = [arm for arm in judged.made if ", 1" not in arm and ", 2" not in arm]
    alike: list[list[object]] = []
    for arm in shown:
        found = judged.similarities[arm]
        cosines = [found.cosine, found.centred_cosine]
        alike.append(
            [
                arm,
                judged.made[arm].queries,
                *(None if cosine is None else round(cosine.value, 3) for cosine in cosines),
                round(found.cka, 3),
            ]
        )
    worth: list[list[object]] = []
    for arm in (TARGET, *shown):
        row: list[object] = [arm]
        for task, scores in judged.scores.items():
            share = scores.recovered(arm, TARGET, *FLOORS)
            row += [
                round(scores.accuracy(arm).value, 3),
                None if share is None else round(share.value, 3),
                round(judged.linear[task].accuracy(arm).value, 3),
            ]
        worth.append(row)
    columns = [column for task in judged.scores for column in (task, "recovered", "linear probe")]
    return [
        Table(
            name=f"{name}-alike",
            title=f"{title}: how alike",
            columns=["encoder", "calls", "cosine", "centred cosine", "CKA"],
            rows=alike,
        ),
        Table(
            name=f"{name}-worth",
            title=f"{title}: what they are worth",
            columns=["encoder", *columns],
            rows=worth,
            caption="Test accuracy of heads on unit-length vectors, recovered share, and accuracy of linear probes on "
            "standardised vectors.",
        ),
    ]


def budget_figure(judged: Judged, arms: Mapping[int, str], name: str, title: str) -> Figure:
    """What copies made with so many calls are worth, and how alike they are."""
    calls = list(arms)
    return line(
        name,
        title,
        "Recovered share, mean over tasks, and centred cosine on held-out inputs, of copies made with so many calls.",
        {
            "recovered share": (calls, [judged.recovered(arm) for arm in arms.values()]),
            "centred cosine": (calls, [judged.centred(arm).value for arm in arms.values()]),
        },
        x_title="calls",
        y_title="share, cosine",
        x_scale="log",
    )
