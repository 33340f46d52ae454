import numpy as np
import pytest
from scipy.stats import norm

from dosimeter.stats.detectable import (
    change_power,
    smallest_change_of_mean,
    smallest_change_of_proportion,
    smallest_difference,
)
from dosimeter.stats.paired import compare_means, compare_pairs, compare_proportions


def test_power_of_mcnemars_test_against_simulation():
    drawn, n, share, difference = np.random.default_rng(0), 60, 0.3, 0.2
    counts = drawn.multinomial(n, [(share + difference) / 2, (share - difference) / 2, 1 - share], size=3000)
    found = [
        gained > lost and compare_proportions(int(gained), int(lost), n).p <= 0.05
        for gained, lost, _ in counts[:400]
    ]
    power = change_power(difference, n, round(share * n), alpha=0.05)
    assert np.mean(found) == pytest.approx(power, abs=4 * np.sqrt(power * (1 - power) / 400))


def test_the_smallest_change_is_found_in_four_of_five_cases():
    for n, changed in ((30, 0), (50, 14), (500, 40)):
        smallest = smallest_change_of_proportion(n, changed, alpha=0.05)
        assert change_power(smallest, n, changed, alpha=0.05) == pytest.approx(0.8, abs=0.01)
        assert change_power(smallest * 0.8, n, changed, alpha=0.05) < 0.8


def test_many_records_agree_with_the_normal_approximation():
    n, changed = 20_000, 2_000
    expected = (norm.ppf(0.975) + norm.ppf(0.8)) * np.sqrt(changed / n / n)
    assert smallest_change_of_proportion(n, changed, alpha=0.05) == pytest.approx(expected, rel=0.03)
    expected = (norm.ppf(0.975) + norm.ppf(0.8)) * 2 / np.sqrt(n)
    assert smallest_change_of_mean(n, 2.0, alpha=0.05) == pytest.approx(expected, rel=0.001)


def test_power_of_the_sign_flip_test_against_simulation():
    drawn = np.random.default_rng(1)
    smallest = smallest_change_of_mean(12, 1.0, alpha=0.05)
    found = [compare_means(drawn.normal(smallest, 1, 12), drawn).p <= 0.05 for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)


def test_more_records_show_smaller_changes_and_more_tests_larger_ones():
    sizes = [smallest_change_of_proportion(n, n // 10, alpha=0.05) for n in (20, 80, 320, 1280)]
    assert sizes == sorted(sizes, reverse=True)
    assert smallest_change_of_proportion(80, 8, alpha=0.05 / 10) > sizes[1]


def test_where_nothing_can_show_or_nothing_is_known_there_is_no_figure():
    generator = np.random.default_rng(0)
    assert smallest_change_of_proportion(5, 3, alpha=0.05) is None
    few = np.array([0.1, 0.2, 0.3])
    assert smallest_difference(compare_means(few, generator), few, alpha=0.05) is None
    still = np.full(20, 0.25)
    found = compare_pairs(still, still, generator)
    assert smallest_difference(found, still - still, alpha=0.05) is not None
    assert smallest_change_of_mean(20, 0.0, alpha=0.05) is None
