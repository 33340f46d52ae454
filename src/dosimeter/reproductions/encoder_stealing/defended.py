"""The encoder behind feature defences: what each takes from honest users and from thieves, the adaptive one included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dosimeter.attacks.encoder_stealing.adaptive import detect_defense, evidence
from dosimeter.attacks.encoder_stealing.interval_loss import Intervals
from dosimeter.attacks.encoder_stealing.purchase import Purchase, buy
from dosimeter.attacks.encoder_stealing.scoring import Task, score_task
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.core.claim import Claim
from dosimeter.core.figures import line
from dosimeter.core.method import Defense
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Batch
from dosimeter.core.result import Figure, Table
from dosimeter.core.target import Target
from dosimeter.defenses.features import FeatureNoise, FeatureRounding, TopKFeatures
from dosimeter.models.heads import HeadRecipe
from dosimeter.reproductions.encoder_stealing.arms import Arm
from dosimeter.reproductions.encoder_stealing.relations import TARGET, Judged

#: The strengths that the specification asks about, and one at which nothing is left to steal.
NAMED = ("top-k 25 %", "rounding 1", "noise 0.5")
STRONGEST = "noise 100"


@dataclass(frozen=True, eq=False)
class Defended:
    """The service behind one defence, and what a thief bought from it."""

    name: str
    family: str
    oracle: Oracle
    purchase: Purchase

    @property
    def arm(self) -> str:
        """Name of the copy made from it."""
        return f"behind {self.name}"

    @property
    def adaptive(self) -> str:
        """Name of the copy that undoes the defence, where it shows."""
        return f"{self.arm}, adaptive"


def defences(
    service: Target, inputs: Batch, *, seed: int, more: Mapping[str, Defense] | None = None
) -> list[Defended]:
    """Buy ``inputs`` from ``service`` behind each defence: three of the specification, a ruinous one, and ``more``."""
    chosen: dict[str, Defense] = {
        "top-k 25 %": TopKFeatures(share=0.25, by="magnitude"),
        "rounding 1": FeatureRounding(decimals=1, unit=True),
        "noise 0.5": FeatureNoise(rho=0.5),
        "noise 8": FeatureNoise(rho=8),
        STRONGEST: FeatureNoise(rho=100),
        **(more or {}),
    }
    found = []
    for name, defense in chosen.items():
        oracle = Oracle(defense.wrap(service, seed=seed))
        vectors = np.asarray(oracle(inputs), dtype=np.float32)
        # A vector that a defence rounded to nothing has no direction: a thief drops it, as ``buy`` demands.
        some = np.flatnonzero(np.abs(vectors).sum(1) > 0)
        kept = inputs[some] if isinstance(inputs, np.ndarray) else [inputs[row] for row in some]
        found.append(Defended(name, name.split(" ")[0], oracle, buy(oracle, kept)))  # type: ignore[arg-type]
    return found


def arms_against(defended: Sequence[Defended], recipe: Recipe, seed: int) -> list[Arm]:
    """The plain copy behind each defence, and where the defence shows in the vectors the adaptive one."""
    arms = []
    for one in defended:
        arms.append(Arm(one.arm, one.purchase, recipe, seed))
        seen = detect_defense(one.purchase.vectors)
        if seen.seen:
            goal = Intervals(evidence(one.purchase.vectors, seen))
            arms.append(Arm(one.adaptive, one.purchase, recipe, seed, goal=goal, note=str(seen)))
    return arms


@dataclass
class Toll:
    """What one defence costs: losses of accuracy against the undefended service, means over tasks."""

    honest: float
    thief: float
    recovered: float


def tolls(
    defended: Sequence[Defended],
    judged: Judged,
    tasks: Sequence[Task],
    heads: HeadRecipe,
    *,
    seed: int,
    head_seeds: int = 1,
) -> dict[str, Toll]:
    """Honest users' and thieves' losses behind every defence. The thief's is that of the better of both copies."""
    honest: dict[str, list[float]] = {one.name: [] for one in defended}
    for task in tasks:
        vectors = {
            one.name: (np.asarray(one.oracle(task.train.inputs)), np.asarray(one.oracle(task.test.inputs)))
            for one in defended
        }
        scores = score_task(task, vectors, heads, seed=seed, heads=head_seeds)
        for name in honest:
            honest[name].append(scores.accuracy(name).value)
    found = {}
    clean, free = judged.accuracy(TARGET), judged.accuracy("stolen")
    for one in defended:
        copies = [name for name in (one.arm, one.adaptive) if name in judged.made]
        best = max(copies, key=judged.recovered)
        found[one.name] = Toll(
            honest=clean - float(np.mean(honest[one.name])),
            thief=free - judged.accuracy(best),
            recovered=judged.recovered(best),
        )
    return found


def defence_claims(costs: Mapping[str, Toll], judged: Judged) -> list[Claim]:
    """Relation 7: at usual strengths stealing goes on; at a ruinous one it ends, and so does the service's use."""
    kept = sum(costs[name].recovered >= 0.4 for name in NAMED)
    said = ", ".join(f"{name}: {costs[name].recovered:.2f}" for name in NAMED)
    ruin = costs[STRONGEST]
    adaptive = [name for name in costs if f"behind {name}, adaptive" in judged.made]
    gains = [
        judged.centred(f"behind {name}, adaptive").value - judged.centred(f"behind {name}").value
        for name in adaptive
    ]
    claims = [
        Claim(
            "defences-insufficient",
            f"defences, of three, behind which a copy keeps a recovered share of 0.4 ({said})",
            kept,
            ">=",
            2,
        ),
        Claim(
            "ruin-thief",
            "recovered share of the better copy behind noise of 100 vector lengths",
            ruin.recovered,
            "<=",
            # Most of the way down from the 0.4 at which a copy counts as kept.
            0.2,
        ),
        Claim(
            "ruin-honest",
            f"honest users' loss of accuracy behind it (the thief's is {ruin.thief:.2f})",
            ruin.honest,
            ">=",
            # A fifth of all answers turned wrong is more than any customer would take.
            0.2,
        ),
    ]
    if gains:
        claims.append(
            Claim(
                "adaptive-gains",
                f"centred cosine with the undefended vectors: adaptive copy minus plain one, mean of {len(gains)} defences "
                f"that show ({', '.join(adaptive)})",
                float(np.mean(gains)),
                ">=",
                0.0,
                low=min(gains),
                high=max(gains),
            )
        )
    return claims


def defence_table(costs: Mapping[str, Toll], judged: Judged) -> Table:
    """Per defence: losses, and what both kinds of thief recover."""
    rows: list[list[object]] = []
    for name, toll in costs.items():
        adaptive = f"behind {name}, adaptive"
        rows.append(
            [
                name,
                round(toll.honest, 3),
                round(toll.thief, 3),
                round(judged.recovered(f"behind {name}"), 3),
                round(judged.recovered(adaptive), 3) if adaptive in judged.made else None,
            ]
        )
    return Table(
        name="defences",
        title="What feature defences cost",
        columns=["defence", "honest users' loss", "thief's loss", "recovered", "recovered, adaptive thief"],
        rows=rows,
        caption="Losses of test accuracy, means over tasks; the thief's is the better copy's. Honest users train and test on "
        "defended vectors. A dash: the defence does not show in the vectors.",
    )


def tradeoff(costs: Mapping[str, Toll], defended: Sequence[Defended], name: str = "defences") -> Figure:
    """Honest users' loss beside the thief's: a curve per kind of defence, a point per strength."""
    points: dict[str, list[tuple[float, float]]] = {}
    for one in defended:
        points.setdefault(one.family, []).append((costs[one.name].honest, costs[one.name].thief))
    series = {}
    for family, pairs in points.items():
        # From no defence at all, where nobody loses anything.
        x, y = zip(*sorted([(0.0, 0.0), *((max(a, 0.0), b) for a, b in pairs)]))
        series[family] = (list(x), list(y))
    return line(
        name,
        "What a defence takes from honest users and from thieves",
        "Loss of test accuracy of honest users, whose heads see defended vectors, and of the best copy. A defence is useful "
        "above the dotted diagonal only.",
        series,
        x_title="honest users' loss of accuracy",
        y_title="thief's loss of accuracy",
        diagonal=True,
    )
