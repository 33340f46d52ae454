"""Every relation on a small encoder of digits, within 90 seconds on two cores."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import Purchase, buy
from dosimeter.attacks.encoder_stealing.rivals import from_scratch
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.core.oracle import Oracle
from dosimeter.core.seeding import derive_seed
from dosimeter.models.heads import HeadRecipe
from dosimeter.reproductions.encoder_stealing import relations, service, towers
from dosimeter.reproductions.encoder_stealing.arms import Arm, jobs, side_by_side
from dosimeter.reproductions.encoder_stealing.defended import (
    arms_against,
    defence_claims,
    defence_table,
    defences,
    tolls,
    tradeoff,
)
from dosimeter.reproductions.encoder_stealing.relations import RANDOM, UNTRAINED, Measured
from dosimeter.reproductions.encoder_stealing.world import QUERIES, World, world

# The published optimizer and weight of views; the learning rate falls to zero so that 300 updates settle.
RECIPE = Recipe(steps=300, schedule="cosine")
PLAIN = RECIPE.model_copy(update={"augmentation_weight": 0.0})
# As many updates as the specification's 60 epochs over 2,000 labels; here there are some 80.
HEADS = HeadRecipe(hidden=(128, 64), learning_rate=1e-3, batch_size=64, epochs=240)
BUDGETS = (25, 100, 500)
COMPARED, SEEDS = 500, 3
_CLOSE = (
    "holds at seeds 0 and 2; at seed 1 the gain is 2.6 points: the original is itself a SimCLR network of some 630 digits, and 639 "
    "tested digits tell accuracies apart by little more than a point"
)
_UNSTEADY = (
    "not in the paper; holds at seeds 0 and 1; at seed 2 it is -0.02: intervals lose a little behind fine rounding, and behind top-k they "
    "gain or lose with the encoder"
)
_TOWERS = "two towers"
_NO_ROOM = (
    "a hundred digits are enough for a copy as useful as the original, with or without augmented views, so at 500 the sign of "
    "the difference is left to chance"
)


def measure(seed: int, cache: Path) -> Measured:
    """Claims, tables and figures at quick size."""
    place = world(seed)
    oracle = Oracle(place.service)
    whole = buy(oracle, place.inside)
    defended = defences(place.service, place.inside, seed=seed)
    arms = [
        *_undefended(place, oracle, whole, seed),
        *arms_against(defended, RECIPE, derive_seed(seed, "compared", 0)),
    ]
    judged_by = relations.batches_of(place.tasks, place.held)
    making = jobs(
        arms,
        judged_by,  # type: ignore[arg-type]
        place.views,
        architecture="small-conv",
        length=0,
        cache=cache,
    )
    done: dict[str, Any] = side_by_side(
        {**making, _TOWERS: partial(towers.claims, place, RECIPE, seed)},
        "stealing the encoder in different ways",
    )
    zero_shot = done.pop(_TOWERS)
    answers = {name: np.asarray(oracle(batch)) for name, batch in judged_by.items()}  # type: ignore[arg-type]
    judged = relations.judge(done, answers, place.tasks, HEADS, seed=seed, head_seeds=2)
    costs = tolls(defended, judged, place.tasks, HEADS, seed=seed, head_seeds=2)
    measured = Measured()
    measured.claims += [
        *relations.in_domain_claims(judged, "stolen"),
        *relations.augmentation_claims(judged, COMPARED, SEEDS, QUERIES, SEEDS, open_recovered=_NO_ROOM),
        relations.budget_claim(judged, COMPARED, QUERIES, SEEDS),
        *(
            replace(claim, open=_CLOSE)
            for claim in relations.scratch_claims(judged, "stolen", "from-scratch")
        ),
        *service.claims(place, RECIPE, seed),
        *zero_shot,
        *(
            replace(claim, open=_UNSTEADY) if claim.name == "adaptive-gains" else claim
            for claim in defence_claims(costs, judged)
        ),
        *relations.control_claims(judged, "permuted", "constant"),
    ]
    measured.tables += [
        *relations.copies_tables(judged, "Copies of the digits encoder"),
        relations.budget_table(
            judged, {0: UNTRAINED, **{n: f"{n} queries" for n in BUDGETS}, QUERIES: "stolen"}
        ),
        defence_table(costs, judged),
    ]
    measured.figures += [
        relations.budget_figure(
            judged,
            {**{n: f"{n} queries" for n in BUDGETS}, QUERIES: "stolen"},
            "budget",
            "What calls bring: the digits encoder",
        ),
        tradeoff(costs, defended),
    ]
    return measured


def _undefended(place: World, oracle: Oracle, whole: Purchase, seed: int) -> list[Arm]:
    order = np.random.default_rng(derive_seed(seed, "subset"))
    start = derive_seed(seed, "compared", 0)
    arms = [
        Arm(f"{n} queries", whole.take(order.permutation(QUERIES)[:n]), RECIPE, start)
        for n in BUDGETS
        if n != COMPARED
    ]
    for number in range(SEEDS):
        part = whole.take(order.permutation(QUERIES)[:COMPARED])
        begun = derive_seed(seed, "compared", number)
        also = f", {number}" if number else ""
        arms += [
            Arm(f"stolen{also}", whole, RECIPE, begun),
            Arm(f"no augmentation{also}", whole, PLAIN, begun),
            Arm(f"{COMPARED} queries{also}", part, RECIPE, begun),
            Arm(f"{COMPARED} queries, no augmentation{also}", part, PLAIN, begun),
        ]
    arms += [
        Arm("out-of-domain", buy(oracle, place.outside), RECIPE, start),
        Arm(
            "from-scratch",
            whole,
            RECIPE,
            start,
            train=partial(from_scratch, recipe=RECIPE, flip=False),
            note="simclr",
        ),
        Arm("permuted", whole.permuted(order), RECIPE, start),
        Arm("constant", whole.constant(), RECIPE, start),
        Arm(RANDOM, whole.random(order), RECIPE, start),
        Arm(UNTRAINED, whole, None, derive_seed(seed, "untrained")),
    ]
    return arms
