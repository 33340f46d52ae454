"""Baselines: equal compute, the queries they claim, and no vector where none is allowed."""

import numpy as np
import pytest
import torch

from dosimeter.attacks.encoder_stealing.campaign import Campaign
from dosimeter.attacks.encoder_stealing.purchase import Purchase, buy
from dosimeter.attacks.encoder_stealing.rivals import baseline_copy, from_scratch
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.attacks.encoder_stealing.views import ImageViews, TextViews
from dosimeter.core.errors import InputError
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from dosimeter.models.networks import SmallConvNet
from dosimeter.models.word_transformer import WordTransformer
from support.tiny_thefts import SIZE, context, fast, public, service

POOL = public()[:50]
STEPS = Recipe(steps=6, optimizer="adam", learning_rate=1e-3, batch_size=20)


def campaign(oracle, **settings):
    made = fast(recipe=STEPS, **settings)
    return Campaign(made, oracle, context(), made.tasks, POOL, POOL[:5], 0)


@pytest.mark.parametrize(
    ("name", "queries", "further", "passes"),
    [
        ("no-augmentation", 50, 0, 6 * 20),
        ("conventional", 50, 0, 6 * 20),
        ("contrastive", 150, 150, 6 * 20),
        ("prototypes", 150, 150, 6 * 20),
        ("from-scratch", 0, 0, 6 * 20 * 2),
    ],
)
def test_what_a_baseline_costs(name, queries, further, passes):
    ledger = Ledger()
    running = campaign(Oracle(service(), ledger=ledger), bought_views=3)
    bought = buy(running.oracle, POOL)
    copy = baseline_copy(running, name, bought)
    assert copy.queries == queries and ledger.used == 50 + further
    # SimCLR rounds up to whole batches of its own.
    assert passes <= copy.input_passes <= passes + 100
    assert copy.embed(POOL).shape == (50, bought.vectors.shape[1])


def test_baselines_differ_from_the_attack_and_from_each_other():
    running = campaign(Oracle(service()))
    bought = buy(running.oracle, POOL)
    names = ("no-augmentation", "conventional", "contrastive", "prototypes", "from-scratch")
    digests = [baseline_copy(running, name, bought).digest for name in names]
    assert len({*digests, running.copy_of(bought, STEPS).digest}) == 6


def test_no_augmentation_is_the_attack_with_lambda_zero():
    running = campaign(Oracle(service()))
    bought = buy(running.oracle, POOL)
    plain = running.copy_of(bought, STEPS.model_copy(update={"augmentation_weight": 0.0}))
    assert baseline_copy(running, "no-augmentation", bought).digest == plain.digest


def test_from_scratch_sees_no_vector():
    oracle = Oracle(service())
    bought = buy(oracle, POOL)
    other = Purchase(bought.inputs, np.random.default_rng(0).normal(size=bought.vectors.shape).astype(np.float32))  # fmt: skip
    copies = [
        from_scratch(one, SmallConvNet((8,), 16, SIZE, seed=0), ImageViews(SIZE), 3, recipe=STEPS)
        for one in (bought, other)
    ]
    assert copies[0].digest == copies[1].digest


@pytest.mark.parametrize(("n", "recipe"), [(50, STEPS), (300, Recipe(steps=40, views=3)), (10, Recipe(epochs=7))])  # fmt: skip
def test_from_scratch_passes_as_many_inputs_as_the_attack(n, recipe):
    inputs = public()[:n]
    copies = recipe.views + 1
    attack = recipe.total_steps(n) * min(recipe.batch_size, n) * copies
    made = from_scratch(
        Purchase(inputs, np.ones((n, 4), np.float32)), SmallConvNet((4,), 4, SIZE, seed=0), ImageViews(SIZE), 0, recipe=recipe,
    )  # fmt: skip
    assert attack <= made.input_passes < attack + 2 * min(128, n)


def test_texts_have_no_views_to_buy_but_a_scratch():
    class Texts:
        attack, views = fast(), TextViews(6)

        def network(self, width):
            return WordTransformer(width=8, heads=2, length=6, embedding_dim=width, seed=0)

    sold = Purchase(["a b c", "d e", "f", "g h"] * 5, np.ones((20, 4), np.float32))
    with pytest.raises(InputError, match=r"baseline prototypes buys views of images; the target takes texts"):
        baseline_copy(Texts(), "prototypes", sold)
    copy = from_scratch(sold, Texts().network(4), TextViews(6), 0, recipe=STEPS)
    assert copy.embed(["a b"]).shape == (1, 4)


def test_mirrored_views_are_left_out_where_they_mean_something(monkeypatch):
    seen = []
    original = ImageViews.__init__

    def noting(self, size, **settings):
        seen.append(settings)
        original(self, size, **settings)

    monkeypatch.setattr(ImageViews, "__init__", noting)
    running = campaign(Oracle(service()), flip=False)
    bought = buy(running.oracle, POOL)
    for name in ("contrastive", "from-scratch"):
        baseline_copy(running, name, bought)
    assert all(settings["flip"] is False for settings in seen) and len(seen) >= 3
    assert torch.get_num_threads() == 1
