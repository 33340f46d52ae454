import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dosimeter.stats.intervals import cluster_bootstrap, proportion_interval


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_interval_is_the_closed_form_in_beta_quantiles(pair):
    successes, n = pair
    found = proportion_interval(successes, n)
    low = stats.beta.ppf(0.025, successes, n - successes + 1) if successes else 0.0
    high = stats.beta.ppf(0.975, successes + 1, n - successes) if successes < n else 1.0
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


def test_wilson_interval_closed_form():
    found = proportion_interval(8, 10, method="wilson")
    z = stats.norm.ppf(0.975)
    centre = (8 + z**2 / 2) / (10 + z**2)
    half = z / (10 + z**2) * np.sqrt(8 * 2 / 10 + z**2 / 4)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert found.method == "Wilson, 95%"


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 5), (0, 0)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(ValueError, match="successes"):
        proportion_interval(successes, n)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        values = generator.normal(1.0, 1.0, size=(40, 1))
        low, high = cluster_bootstrap(values, generator, resamples=400)
        hits += bool(low[0] <= 1.0 <= high[0])
    assert 0.90 <= hits / 300 <= 0.98


def test_bootstrap_resamples_whole_rows():
    values = np.repeat(np.random.default_rng(0).normal(size=(10, 1)), 3, axis=1)
    low, high = cluster_bootstrap(values, np.random.default_rng(1))
    assert np.ptp(low) == pytest.approx(0) and np.ptp(high) == pytest.approx(0)


def test_bootstrap_of_one_cluster_is_that_cluster():
    low, high = cluster_bootstrap(np.array([[0.2, 0.9]]), np.random.default_rng(0))
    assert np.allclose(low, [0.2, 0.9]) and np.allclose(high, [0.2, 0.9])
