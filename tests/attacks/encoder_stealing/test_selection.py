"""Which inputs are bought: k-center against the best possible choice, disagreement, saturation."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from dosimeter.attacks.encoder_stealing.selection import at_random, k_center, most_disputed, saturated
from dosimeter.core.errors import InputError


def radius(points, chosen):
    return cdist(points, points[list(chosen)]).min(1).max()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 9), count=st.integers(1, 4), copies=st.booleans(), seed=st.integers(0, 2**20))
def test_k_center_is_at_most_twice_the_best_radius(n, count, copies, seed):
    count = min(count, n)
    points = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    if copies:
        points[n // 2 :] = points[0]
    chosen = k_center(points, count)
    assert len(set(chosen.tolist())) == count and chosen.dtype == np.int64
    best = min(radius(points, choice) for choice in combinations(range(n), count))
    assert radius(points, chosen) <= 2 * best + 1e-3


def test_k_center_takes_the_farthest_next():
    line = np.array([[0.0], [1.0], [2.0], [10.0], [4.0]])
    assert k_center(line, 4).tolist() == [0, 3, 4, 2]


def test_what_was_bought_is_a_centre_and_is_not_bought_again():
    line = np.array([[0.0], [1.0], [2.0], [10.0], [4.0]])
    assert k_center(line, 2, bought=np.array([3, 0])).tolist() == [4, 2]
    rest = k_center(line, 3, bought=np.array([3, 0]))
    assert sorted([*rest.tolist(), 3, 0]) == [0, 1, 2, 3, 4]


def test_copies_come_last_but_each_only_once():
    points = np.zeros((6, 3))
    points[5] = 1
    chosen = k_center(points, 6)
    assert chosen[:2].tolist() == [0, 5] and sorted(chosen.tolist()) == list(range(6))


def test_disputed_inputs_are_those_whose_directions_differ_most():
    one = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    other = np.array([[5.0, 0], [1, 1], [-1, 0], [0, 2]])
    assert most_disputed(one, other, 2, bought=np.array([], dtype=int)).tolist() == [2, 3]
    assert most_disputed(one, other, 2, bought=np.array([2])).tolist() == [3, 1]


@pytest.mark.parametrize("bought", [[], [1, 3, 7]])
def test_random_choice_is_new_distinct_and_seeded(bought):
    bought = np.array(bought, dtype=np.int64)
    picks = [at_random(20, 8, np.random.default_rng(seed), bought=bought) for seed in (0, 0, 1)]
    assert np.array_equal(picks[0], picks[1]) and not np.array_equal(picks[0], picks[2])
    assert len(np.unique(np.concatenate([picks[0], bought]))) == 8 + len(bought)


@pytest.mark.parametrize(
    "choose",
    [
        lambda n, bought: k_center(np.zeros((5, 2)), n, bought=bought),
        lambda n, bought: most_disputed(np.ones((5, 2)), np.ones((5, 2)), n, bought=bought),
        lambda n, bought: at_random(5, n, np.random.default_rng(0), bought=bought),
    ],
)
def test_more_than_there_is_cannot_be_chosen(choose):
    with pytest.raises(InputError, match=r"at most the 3 inputs that are left to buy, but 4 are wanted"):
        choose(4, np.array([0, 2]))


def test_saturation_looks_at_the_last_purchase():
    assert not saturated([], 0.1) and not saturated([0.5], 0.1)
    assert not saturated([0.5, 0.7], 0.1)
    assert saturated([0.2, 0.7, 0.75], 0.1)
    assert saturated([0.7, 0.6], 0.0)
