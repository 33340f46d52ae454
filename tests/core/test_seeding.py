import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dosimeter.core.seeding import derive_seed, rng

PARTS = st.lists(st.one_of(st.text(st.characters()), st.integers()), max_size=3).map(tuple)


@given(st.integers(-(2**40), 2**70), PARTS, st.integers(-(2**40), 2**70), PARTS)
def test_two_places_share_a_seed_only_if_they_are_one(seed, path, other_seed, other_path):
    same_place = (seed, [(type(p), p) for p in path]) == (other_seed, [(type(p), p) for p in other_path])
    assert (derive_seed(seed, *path) == derive_seed(other_seed, *other_path)) is same_place


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("ab",)),
        (("a", "b"), ("a\x1fstr:b",)),
        (("a\\", "b"), ("a\\s", "b")),
        (("1",), (1,)),
        (("",), ()),
        (("a", "b"), ("b", "a")),
        (("\ud800",), ("\udc00",)),
    ],
)
def test_paths_that_look_alike_differ(one, other):
    assert derive_seed(0, *one) != derive_seed(0, *other)


def test_seeds_stay_what_they_were_between_versions():
    assert derive_seed(0) == 4_761_921_975_702_974_394
    assert derive_seed(7, "attack", 3) == 9_211_917_995_124_417_602


def test_seeds_fit_every_generator():
    seeds = [derive_seed(0, number) for number in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_streams_repeat_and_do_not_correlate():
    assert np.array_equal(rng(3, "x").random(5), rng(3, "x").random(5))
    draws = np.array([rng(3, "x", place).standard_normal(4000) for place in range(12)])
    off_diagonal = np.corrcoef(draws)[~np.eye(12, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.08
