import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, multinomial, norm, permutation_test, ttest_rel

from dosimeter.stats.paired import (
    compare_means,
    compare_pairs,
    compare_proportions,
    fewest_records,
    holm,
)

ROUNDED = st.floats(-3, 3).map(lambda value: round(value, 2))


def generator():
    return np.random.default_rng(0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_proportions_have_the_binomial_test_of_what_changed(pairs):
    before, after = np.array(pairs, dtype=float).T
    found = compare_pairs(before, after, generator())
    gained, lost = int((after > before).sum()), int((before > after).sum())
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p == pytest.approx(expected)
    assert found.difference == pytest.approx(after.mean() - before.mean())
    assert found.changed == gained + lost
    assert found.low <= found.difference + 1e-9 and found.difference <= found.high + 1e-9
    turned = compare_pairs(after, before, generator())
    assert (turned.p, turned.low, turned.high) == pytest.approx((found.p, -found.high, -found.low), abs=1e-6)


def test_mcnemars_worked_example():
    """Agresti, Categorical Data Analysis, 2nd edition, table 10.1: 944 and 880 of 1,600 approve, 86 + 150 changed."""
    found = compare_proportions(86, 150, 1600)
    assert found.difference == pytest.approx(-0.04)
    assert found.p == pytest.approx(3.7e-5, abs=5e-6)
    assert (found.low, found.high) == pytest.approx((-0.0587, -0.0213), abs=3e-4)  # Wald: -0.0587, -0.0213


def constrained_score(gained: int, lost: int, n: int, null: float) -> float:
    """The score statistic with the likelihood maximised numerically under p_gained - p_lost = null."""

    def surprise(share_lost: float) -> float:
        shares = np.array([share_lost + null, share_lost, 1 - 2 * share_lost - null])
        counts = np.array([gained, lost, n - gained - lost])
        return -float(np.sum(counts * np.log(np.maximum(shares, 1e-300))))

    bounds = (max(0.0, -null), (1 - null) / 2)
    share = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - n * null) / np.sqrt(n * (2 * share + null - null**2))


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (3, 9, 20), (0, 5, 12), (40, 41, 300)])
def test_the_interval_ends_where_the_score_test_of_the_constrained_likelihood_turns(gained, lost, n):
    found = compare_proportions(gained, lost, n)
    z = norm.ppf(0.975)
    assert constrained_score(gained, lost, n, found.low) == pytest.approx(z, abs=2e-3)
    assert constrained_score(gained, lost, n, found.high) == pytest.approx(-z, abs=2e-3)
    at_end = compare_proportions(gained, lost, n, null=found.high)
    assert at_end.p == pytest.approx(0.05, abs=1e-4)


def test_no_change_at_all_still_has_an_interval_of_the_sample_s_width():
    found = compare_proportions(0, 0, 30)
    squared = norm.ppf(0.975) ** 2
    assert found.high == -found.low == pytest.approx(squared / (30 + squared), abs=1e-6)
    assert found.p == 1
    everything = compare_proportions(30, 0, 30)
    assert (everything.difference, everything.high) == (1, 1)


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.05, 0.2), (0.02, 0.01), (0.3, 0.0)])
def test_coverage_and_error_by_enumeration(shares):
    """Every outcome of 25 records with its probability: the interval holds near 95 %, the test never more than 5 %."""
    n, covered, rejected = 25, 0.0, 0.0
    outcomes = [(g, lost) for g in range(n + 1) for lost in range(n + 1 - g)]
    for gained, lost in outcomes:
        weight = multinomial.pmf([gained, lost, n - gained - lost], n, [*shares, 1 - sum(shares)])
        if weight < 1e-7:
            continue
        found = compare_proportions(gained, lost, n)
        covered += weight * (found.low <= shares[0] - shares[1] <= found.high)
        rejected += weight * (found.p <= 0.05)
    assert covered > 0.93
    assert shares[0] != shares[1] or rejected <= 0.05


def flipped_by_brute_force(differences: np.ndarray) -> float:
    """The p-value over all 2^n signs, one by one."""
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = np.array([np.dot(differences, sign) for sign in signs])
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9))


@settings(max_examples=40)
@given(st.lists(ROUNDED, min_size=1, max_size=9))
def test_means_have_the_sign_flip_test(values):
    differences = np.array(values)
    found = compare_means(differences, generator())
    assert found.p == pytest.approx(flipped_by_brute_force(differences))
    assert found.low <= found.difference <= found.high


def test_the_same_as_scipy_s_permutation_test_and_near_student_s_test():
    drawn = np.random.default_rng(3)
    before, after = drawn.normal(size=12), drawn.normal(0.6, size=12)
    reference = permutation_test(
        (before, after), lambda x, y, axis: (y - x).mean(axis), permutation_type="samples", vectorized=True
    )
    found = compare_pairs(before, after, generator())
    assert found.p == pytest.approx(reference.pvalue)
    before, after = drawn.normal(size=400), drawn.normal(0.15, size=400)
    assert compare_pairs(before, after, generator()).p == pytest.approx(
        ttest_rel(after, before).pvalue, abs=0.01
    )


@settings(max_examples=30)
@given(st.lists(ROUNDED, min_size=6, max_size=12), st.floats(-3, 3))
def test_interval_and_test_never_contradict_each_other(values, null):
    differences = np.array(values) + np.arange(len(values)) * 1e-3  # no ties: ends are then attained once
    found = compare_means(differences, generator(), null=null)
    assert (found.p > 0.05) == (found.low <= null <= found.high)


def test_coverage_of_the_mean_for_few_and_many_records():
    drawn = np.random.default_rng(1)
    for n, draws in ((8, 600), (40, 150)):
        inside = [
            (found := compare_means(drawn.normal(0.3, 1, n), drawn)).low <= 0.3 <= found.high
            for _ in range(draws)
        ]
        # 95 % must lie within the exact 99.9 % interval of what was seen.
        assert binom.cdf(sum(inside), draws, 0.95) > 0.0005 < binom.sf(sum(inside) - 1, draws, 0.95)


def test_few_records_can_show_nothing_and_the_interval_says_so():
    found = compare_means(np.array([1.0, 1.1, 0.9, 1.2, 1.0]), generator())
    assert found.p == pytest.approx(2 / 32)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert compare_proportions(5, 0, 5).p == pytest.approx(2 / 32)
    assert compare_proportions(6, 0, 6).p < 0.05
    assert [fewest_records(alpha) for alpha in (0.05, 0.05 / 2, 2**-5, 0.01)] == [6, 7, 6, 8]


def test_nothing_changed_is_no_difference():
    found = compare_means(np.zeros(20), generator())
    assert (found.p, found.low, found.high, found.changed) == (1, 0, 0, 0)


def test_the_same_generator_gives_the_same_figures():
    values = np.random.default_rng(2).normal(size=50)
    assert compare_means(values, generator()) == compare_means(values, generator())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_step_by_step(p_values):
    """By definition: at every level, the p-values are rejected from the smallest on until one is too large."""
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2, 0.7):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if p_values[place] * (len(p_values) - rank) > level:
                break
            rejected.add(place)
        assert {place for place, p in enumerate(adjusted) if p <= level} == rejected


def test_holms_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="the same records"):
        compare_pairs(np.zeros(3), np.zeros(4), generator())
    with pytest.raises(ValueError, match="the same records"):
        compare_pairs(np.zeros(0), np.zeros(0), generator())
    with pytest.raises(ValueError, match="finite"):
        compare_pairs(np.zeros(2), np.array([0, np.nan]), generator())
    with pytest.raises(ValueError, match="gained"):
        compare_proportions(3, 3, 5)
