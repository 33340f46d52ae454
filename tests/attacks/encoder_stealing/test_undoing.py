"""The adaptive attacker: what it sees, what further answers it pays for, and that averaging helps."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.campaign import Campaign
from dosimeter.attacks.encoder_stealing.purchase import Purchase, buy, probe
from dosimeter.attacks.encoder_stealing.undoing import MOST_REPEATS, adaptive_copy, averaged
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from dosimeter.defenses.features import FeatureNoise, FeatureRounding, TopKFeatures
from support.tiny_thefts import context, fast, public, service

POOL = public()[:50]


def undone(target):
    ledger = Ledger()
    made = fast()
    oracle = Oracle(target, ledger=ledger)
    running = Campaign(made, oracle, context(), made.tasks, POOL, POOL[:5], 0)
    seen = probe(oracle, POOL[:10])
    bought = buy(oracle, POOL)
    before = ledger.used
    return adaptive_copy(running, bought, seen), running.copy_of(bought, made.recipe), ledger.used - before


def test_an_undefended_service_shows_nothing():
    found, _, further = undone(service())
    assert found is None and further == 0


@pytest.mark.parametrize(
    ("defense", "said"),
    [
        (TopKFeatures(k=4, by="magnitude"), "4 largest"),
        (FeatureRounding(decimals=1, unit=True), "rounded to 1 decimal"),
    ],
)
def test_a_defence_that_shows_is_undone_without_a_call(defense, said):
    found, plain, further = undone(defense.wrap(service()))
    assert said in found.defense and further == 0
    assert found.copy.digest != plain.digest and found.copy.queries == 50


def test_noise_once_per_input_does_not_show():
    found, _, further = undone(FeatureNoise(rho=0.5).wrap(service()))
    assert found is None and further == 0


@pytest.mark.parametrize(("rho", "repeats"), [(0.05, 0), (0.135, 1), (0.6, MOST_REPEATS), (2.0, MOST_REPEATS)])  # fmt: skip
def test_noise_per_query_is_averaged_as_often_as_needed_and_no_oftener(rho, repeats):
    found, _, further = undone(FeatureNoise(rho=rho, draw="per-query").wrap(service()))
    assert "noise of its own" in found.defense
    # The second answers to the ten probes are among the first repeats.
    assert further == (50 * repeats - 10 if repeats else 0)


def test_the_mean_of_answers_has_less_noise():
    target = FeatureNoise(rho=1.0, draw="per-query").wrap(service())
    oracle = Oracle(target)
    bought = buy(oracle, POOL)
    mean = averaged(oracle, bought, 3)
    clean = service().answer(POOL)
    errors = [np.linalg.norm(one.vectors - clean, axis=1).mean() for one in (bought, mean)]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)  # four answers halve it
    repeated = [np.asarray(oracle(POOL, repeat=n), np.float64) for n in range(4)]
    np.testing.assert_allclose(mean.vectors, np.mean(repeated, axis=0), rtol=1e-4, atol=1e-5)
    assert mean.vectors.dtype == np.float32


def test_no_further_answers_are_the_same_vectors():
    oracle = Oracle(service())
    bought = buy(oracle, POOL)
    same = averaged(oracle, bought, 0)
    np.testing.assert_array_equal(same.vectors, bought.vectors)
    assert isinstance(same, Purchase)
