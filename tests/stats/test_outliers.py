import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dosimeter.stats.outliers import grubbs_critical, grubbs_p, largest_z, z_scores

# One-sided 5 % critical values of Grubbs' test as tabulated (Grubbs and Beck 1972, table 1).
TABULATED = {5: 1.671, 6: 1.822, 7: 1.938, 8: 2.032, 10: 2.176, 12: 2.285}


@pytest.mark.parametrize(("n", "expected"), TABULATED.items())
def test_critical_values_agree_with_the_published_table(n, expected):
    assert grubbs_critical(n) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("n", [5, 6, 8, 12])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01, 0.001])
def test_p_value_inverts_the_critical_value(n, alpha):
    assert grubbs_p(grubbs_critical(n, alpha), n) == pytest.approx(alpha, rel=1e-6)


def test_family_wise_error_holds_for_normal_scores():
    draws = np.random.default_rng(0).normal(size=(200_000, 6))
    z = (draws - draws.mean(1, keepdims=True)) / draws.std(1, ddof=1, keepdims=True)
    rate = (z.max(1) > grubbs_critical(6, 0.05)).mean()
    assert rate == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize(("n", "rate"), [(5, 0.03), (6, 0.12), (8, 0.24), (12, 0.43)])
def test_fixed_threshold_accuses_more_the_more_candidates_there_are(n, rate):
    draws = np.random.default_rng(1).normal(size=(100_000, n))
    z = (draws - draws.mean(1, keepdims=True)) / draws.std(1, ddof=1, keepdims=True)
    assert (z.max(1) > 1.7).mean() == pytest.approx(rate, abs=0.012)


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_largest_z_is_reached_by_one_score_apart(n):
    scores = np.zeros(n)
    scores[1] = 7.0
    assert z_scores(scores).max() == pytest.approx(largest_z(n))
    assert grubbs_p(largest_z(n), n) == 0.0


def test_four_candidates_can_never_pass_the_published_threshold():
    assert largest_z(4) < 1.7 < largest_z(5)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20), st.floats(0.1, 10), st.floats(-5, 5))
def test_z_scores_do_not_depend_on_unit_or_origin(scores, scale, shift):
    scores = np.array(scores)
    if np.ptp(scores) < 1e-3:
        return
    assert np.allclose(z_scores(scores), z_scores(scores * scale + shift), atol=1e-4)


def test_z_scores_agree_with_scipy():
    from scipy.stats import zscore

    scores = np.array([0.1, 0.4, 0.35, 0.9, 0.2])
    assert np.allclose(z_scores(scores), zscore(scores, ddof=1))


def test_equal_and_single_scores_are_refused():
    with pytest.raises(ValueError, match=r"all 5 scores equal 0\.5"):
        z_scores(np.full(5, 0.5))
    with pytest.raises(ValueError, match="at least two"):
        z_scores(np.array([1.0]))


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.05), (5, 0.0), (5, 1.0)])
def test_critical_value_refuses_nonsense(n, alpha):
    with pytest.raises(ValueError, match="expected n >= 3"):
        grubbs_critical(n, alpha)


def test_negative_z_is_never_significant():
    assert grubbs_p(-0.5, 6) == 1.0
    assert math.isclose(grubbs_p(0.1, 6), 1.0)
