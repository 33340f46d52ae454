"""The steps of a campaign: what is bought when, which copies are made, which one counts."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.campaign import (
    PERMUTED,
    RANDOM,
    STOLEN,
    TARGET,
    UNTRAINED,
    Campaign,
)
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from support.tiny_thefts import RECIPE, context, fast, few, public, service

POOL, HELD = public()[:120], public()[120:150]


def campaign(settings=None, ledger=None, oracle=None, where=None):
    made = fast(**(settings or {}))
    oracle = oracle or Oracle(service(), ledger=ledger or Ledger())
    return Campaign(made, oracle, where or context(), made.tasks, POOL, HELD, 0)


@pytest.fixture(scope="module")
def spoils():
    everything = ("no-augmentation", "conventional", "contrastive", "prototypes", "from-scratch")
    running = campaign({"budgets": (10, 30), "baselines": everything, "bought_views": 3})
    return running, running.run()


def test_a_copy_per_way_and_two_controls(spoils):
    _, found = spoils
    assert list(found.copies) == [
        STOLEN, "no-augmentation", "conventional", "contrastive", "prototypes", "from-scratch", PERMUTED, RANDOM,
        UNTRAINED,
    ]  # fmt: skip
    assert found.scores[0].names == (TARGET, *found.copies)
    assert set(found.similarities) == set(found.copies)
    assert len({copy.digest for copy in found.copies.values()}) == len(found.copies)
    queries = {name: copy.queries for name, copy in found.copies.items()}
    assert queries == {
        STOLEN: 60, "no-augmentation": 60, "conventional": 60, "contrastive": 180, "prototypes": 180,
        "from-scratch": 0, PERMUTED: 60, RANDOM: 60, UNTRAINED: 0,
    }  # fmt: skip


def test_each_budget_is_a_point_of_the_price_curve_and_buys_more_of_the_same(spoils):
    _, found = spoils
    assert [point.queries for point in found.curve] == [10, 30, 60]
    assert len(found.purchase) == 60 and not found.stopped
    rows = {record.tobytes() for record in found.purchase.inputs}
    assert len(rows) == 60 and rows <= {record.tobytes() for record in POOL}
    assert not rows & {record.tobytes() for record in HELD}, "held-out inputs were bought"


def test_vectors_belong_to_their_inputs(spoils):
    _, found = spoils
    np.testing.assert_array_equal(found.purchase.vectors, service().answer(found.purchase.inputs))


def test_control_vectors_are_the_same_ones_dealt_out_anew(spoils):
    running, found = spoils
    mixed = found.purchase.permuted(running.context.rng("permuted"))
    assert np.sort(mixed.vectors, 0).tobytes() == np.sort(found.purchase.vectors, 0).tobytes()
    assert not np.array_equal(mixed.vectors, found.purchase.vectors)


def test_the_best_copy_is_chosen_on_held_out_inputs_and_never_a_control(spoils):
    _, found = spoils
    honest = {
        name: alike.centred_cosine.value
        for name, alike in found.similarities.items()
        if name not in (PERMUTED, RANDOM, UNTRAINED)
    }
    assert found.best == max(honest, key=honest.get)


def test_the_test_part_of_tasks_has_no_say_in_copies_or_in_the_choice():
    """Other test labels and images change neither weights nor the copy that counts."""
    whole = few()
    other = few(80)
    other = type(whole)("digits", whole.train, other.test.take(range(40, 80)))
    found = [campaign({"tasks": (one,), "baselines": ("no-augmentation",)}).run() for one in (whole, other)]
    assert found[0].best == found[1].best
    for name, copy in found[0].copies.items():
        assert copy.digest == found[1].copies[name].digest
    assert found[0].scores[0].keys != found[1].scores[0].keys


def test_buying_stops_once_it_brings_too_little():
    ledger = Ledger()
    found = campaign({"budgets": (10, 20, 30), "stop_gain": 5.0}, ledger).run()
    assert found.stopped and len(found.purchase) == 20
    assert [point.queries for point in found.curve] == [10, 20]
    assert found.copies[STOLEN].queries == 20
    # Held-out answers decided when to stop, so the thief pays them: 20 + 10 twice, less what coincides, 5 dimmed, 30 held.
    assert 65 <= found.thief_queries <= 75
    assert found.thief_queries + found.evaluation_queries == ledger.used


def test_without_a_stopping_rule_held_out_answers_are_the_judges():
    found = campaign({"budgets": (10, 20, 30)}).run()
    assert 75 <= found.thief_queries <= 85


def test_money_follows_calls():
    found = campaign(oracle=Oracle(service(price_per_call=0.5)), settings={"budgets": (10,)}).run()
    assert [point.money for point in found.curve] == [5.0, 30.0]


@pytest.mark.parametrize(("selection", "seeds"), [("random", [1]), ("k-center", []), ("disagreement", [])])
def test_every_selection_buys_distinct_inputs_and_is_seeded(selection, seeds):
    settings = {"budgets": (20,), "selection": selection}
    found = [campaign(settings, where=context(seed=seed)).run() for seed in (0, 0, *seeds)]
    bought = [{record.tobytes() for record in one.purchase.inputs} for one in found]
    assert {len(rows) for rows in bought} == {60}
    assert found[0].purchase.digest == found[1].purchase.digest
    assert all(other.purchase.digest != found[0].purchase.digest for other in found[2:])


def test_k_center_spreads_further_than_chance():
    from scipy.spatial.distance import cdist

    radius = {}
    for selection in ("random", "k-center"):
        running = campaign({"queries": 20, "selection": selection})
        rows = running._choose(20, np.empty(0, np.int64), None)
        eye = running.network(64, "eye").eval()
        from dosimeter.attacks.encoder_stealing.training import StolenEncoder

        vectors = StolenEncoder(eye, running.views).embed(POOL)
        radius[selection] = cdist(vectors, vectors[rows]).min(1).max()
    assert radius["k-center"] < radius["random"]


def test_copies_are_taken_from_the_cache_only_where_all_is_equal(tmp_path):
    def kept():
        return {path.name for path in tmp_path.rglob("*.safetensors")}

    first = campaign(where=context(cache=tmp_path)).run()
    names = kept()
    assert len(names) == 4  # stolen, permuted, random vectors, planted
    second = campaign(where=context(cache=tmp_path)).run()
    assert kept() == names
    assert {n: c.digest for n, c in first.copies.items()} == {n: c.digest for n, c in second.copies.items()}
    for settings in (
        {"crop": True},
        {"flip": True},
        {"recipe": Recipe(steps=3)},
        {"surrogate": "small-resnet"},
    ):
        before = kept()
        campaign(settings, where=context(cache=tmp_path)).run()
        assert len(kept() - before) == 4, settings
    before = kept()
    campaign(where=context(cache=tmp_path, seed=1)).run()
    assert len(kept() - before) == 4


def test_planted_is_a_network_of_the_surrogates_kind_that_the_attack_can_copy():
    settings = {"recipe": RECIPE.model_copy(update={"steps": 40}), "queries": 100}
    found = campaign(settings).run()
    assert found.planted.centred_cosine.value > 0.4
    assert found.planted.centred_cosine.low > found.similarities[PERMUTED].centred_cosine.high


def test_the_floor_does_not_start_where_the_copy_starts():
    running = campaign()
    first, again, other = running.network(16), running.network(16), running.network(16, "untrained")
    states = [np.concatenate([t.detach().numpy().ravel() for t in n.parameters()]) for n in (first, again, other)]  # fmt: skip
    assert np.array_equal(states[0], states[1]) and not np.array_equal(states[0], states[2])
